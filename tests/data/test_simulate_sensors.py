"""Sensors that only the table describes."""

import rasterio

from flairhub_jax.data import dates, simulate, split_csv
from flairhub_jax.modalities import MODALITIES, Modality


def test_a_sensor_that_is_added_to_the_table(tmp_path, monkeypatch):
  """One image and one series, with and without statistics."""
  rows = (
    Modality(
      id="DRONE_RGB",
      is_series=False,
      bands=("R", "G", "B"),
      gsd=0.4,
      pixels=256,
      dtype="uint16",
      unit="digital number",
      mean=dict(R=3000.0, G=4000.0, B=2000.0),
      std=dict(R=300.0, G=400.0, B=200.0),
      default_bands=("R", "G", "B"),
    ),
    Modality(
      id="LANDSAT_TS",
      is_series=True,
      bands=("RED", "NIR"),
      gsd=25.6,
      pixels=4,
      dtype="float32",
      unit="reflectance",
      default_bands=("RED", "NIR"),
    ),
  )
  for row in rows:
    monkeypatch.setitem(MODALITIES, row.id, row)
  monkeypatch.setattr(split_csv, "COLUMNS", (*split_csv.COLUMNS, *MODALITIES))
  names = ["DRONE_RGB", "SENTINEL2_TS", "LANDSAT_TS"]
  out = tmp_path / "more"
  simulate.simulate(
    out,
    num_patches=12,
    pixels=32,
    modalities=names,
    num_workers=0,
    progress=False,
  )
  split = split_csv.read_split(simulate.csv_path(out, "train"))
  with rasterio.open(split.file("DRONE_RGB", 0)) as raster:
    image, dtypes = raster.read(), raster.dtypes
  assert image.shape == (3, 32, 32) and set(dtypes) == {"uint16"}
  assert 2500 < image[0].mean() < 3500 and image[0].std() > 50
  with rasterio.open(split.file("LANDSAT_TS", 0)) as raster:
    series = raster.read()
  assert series.shape[0] % 2 == 0 and series.shape[1:] == (4, 4)
  [days] = dates.read_dates(
    dates.metadata_file(out / "GLOBAL_ALL_MTD", "LANDSAT_TS"),
    [split.patch_ids[0]],
    cache=tmp_path,
  )
  assert len(days) == series.shape[0] // 2
