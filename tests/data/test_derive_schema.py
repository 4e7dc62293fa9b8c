"""A schema derived from the files of a CSV."""

import json

import numpy as np
import pytest
import rasterio
import rasterio.crs

from flairhub_jax.data import derive_schema
from flairhub_jax.errors import InputError, InputErrors
from tests.data import published_layout

UTM = rasterio.crs.CRS.from_epsg(32631)
rng = np.random.default_rng(0)


def write(path, values, *, gsd=0.5, crs=UTM, nodata=None, names=(), table=None):
  """Writes values [bands h w] as GeoTIFF."""
  count, height, width = values.shape
  transform = rasterio.Affine(gsd, 0, 500_000, 0, -gsd, 5_000_000)
  with rasterio.open(
    path, "w", driver="GTiff", dtype=values.dtype, count=count, height=height,
    width=width, crs=crs, transform=transform, nodata=nodata,
  ) as raster:  # fmt: skip
    raster.write(values)
    for i, name in enumerate(names):
      raster.set_band_description(i + 1, name)
    if table:
      raster.write_colormap(1, table)


def write_csv(folder, columns, number):
  path = folder / "split.csv"
  rows = [",".join(("patch_id", *columns))]
  for i in range(number):
    rows.append(",".join((f"P{i}", *(f"{c}-{i}.tif" for c in columns))))
  path.write_text("\n".join(rows))
  return path


def derive(path):
  return derive_schema.derive(path, name="own", progress=False)


def test_images_and_labels_are_read_from_their_files(tmp_path):
  for i in range(3):
    image = rng.normal(1000, 50, (4, 8, 8)).astype(np.uint16)
    image[3] += 1000
    write(
      tmp_path / f"SAT-{i}.tif", image, names=("blue", "green", "red", "nir")
    )
    label = np.full((1, 8, 8), 1, np.uint8)
    label[0, :2] = 2
    label[0, 0, 0] = 255
    write(tmp_path / f"TRUTH-{i}.tif", label, table={2: (255, 0, 128)})
  schema, lines = derive(write_csv(tmp_path, ("SAT", "TRUTH"), 3))
  sensor, task = schema.sensors["SAT"], schema.tasks["TRUTH"]
  assert sensor.bands == ("blue", "green", "red", "nir")
  assert (sensor.dtype, sensor.gsd, sensor.pixels) == ("uint16", 0.5, 8)
  assert sensor.mean["blue"] == pytest.approx(1000, abs=15)
  assert sensor.mean["nir"] == pytest.approx(2000, abs=15)
  assert sensor.std["red"] == pytest.approx(50, rel=0.2)
  assert [task.stored_values(i) for i in range(2)] == [(1,), (2,)]
  assert task.classes[1].colour == "#ff0080" and task.ignored == (255,)
  assert task.gsd == 0.5
  text = "\n".join(lines)
  assert "TRUTH, classes: values in 3 files: 1 (75.00%), 2 (23.44%)" in text
  assert "TRUTH, ignored: the value 255 (1.56%)" in text


def test_every_assumption_has_a_line(tmp_path):
  zeros = np.zeros((3, 8, 8), np.uint8)
  zeros[:, :4] = rng.integers(1, 255, (3, 4, 8))
  write(tmp_path / "RGB-0.tif", zeros, crs=None)
  write(
    tmp_path / "B-0.tif", rng.random((5, 4, 4)).astype(np.float32), crs=None
  )
  schema, lines = derive(write_csv(tmp_path, ("RGB", "B"), 1))
  assert schema.sensors["RGB"].bands == ("R", "G", "B") and schema.tasks == {}
  text = "\n".join(lines)
  assert "RGB, no_data: 0 in all bands is 50.00% of the values" in text
  assert "RGB, gsd: the files have no georeference" in text
  assert "B, bands: the files do not name them; B1, B2, B3, B4, B5" in text


def test_unplaced_files_get_the_extent_of_the_placed_ones(tmp_path):
  write(tmp_path / "A-0.tif", rng.random((1, 20, 20)).astype(np.float32))
  write(
    tmp_path / "B-0.tif", rng.random((1, 5, 5)).astype(np.float32), crs=None
  )
  schema, _ = derive(write_csv(tmp_path, ("A", "B"), 1))
  assert schema.sensors["B"].gsd == 2.0


def test_degrees_become_metres_and_no_data_does_not_count(tmp_path):
  values = np.full((1, 4, 4), 7, np.int16)
  values[0, 0] = -9999
  crs = rasterio.crs.CRS.from_epsg(4326)
  path = tmp_path / "A_SENSOR-0.tif"
  with rasterio.open(
    path, "w", driver="GTiff", dtype="int16", count=1, height=4, width=4,
    crs=crs, transform=rasterio.Affine(1e-4, 0, 2, 0, -1e-4, 60),
    nodata=-9999,
  ) as raster:  # fmt: skip
    raster.write(values)
  write(tmp_path / "IMAGE-0.tif", rng.random((1, 4, 4)).astype(np.float32))
  schema, lines = derive(write_csv(tmp_path, ("A_SENSOR", "IMAGE"), 1))
  task = schema.tasks["A_SENSOR"]  # one value: it looks like labels
  assert task.gsd == pytest.approx(11.132 * 0.5, rel=1e-3)
  assert task.class_names == ("class 7",)
  assert any("declared as without data" in line for line in lines)
  assert any("taken for labels" in line for line in lines)


def series_folder(tmp_path, counts=(3, 5), bands=2):
  folder = tmp_path / "GLOBAL_ALL_MTD"
  folder.mkdir()
  dates = {}
  for i, number in enumerate(counts):
    values = rng.random((number * bands, 4, 4)).astype(np.float32)
    write(tmp_path / f"RADAR-{i}.tif", values, gsd=10)
    mask = rng.integers(0, 100, (number, 4, 4)).astype(np.uint8)
    write(tmp_path / f"RADAR_CLOUD-{i}.tif", mask, gsd=10)
    dates[f"P{i}"] = json.dumps(
      {str(j): f"2020{j + 1:02d}01" for j in range(number)}
    )
  published_layout.write_dates(folder / "GLOBAL_RADAR_MTD_DATES.gpkg", dates)
  return write_csv(tmp_path, ("RADAR", "RADAR_CLOUD"), len(counts))


def test_a_series_has_as_many_bands_as_its_dates_say(tmp_path):
  schema, lines = derive(series_folder(tmp_path))
  sensor = schema.sensors["RADAR"]
  assert sensor.is_series and sensor.bands == ("B1", "B2")
  assert sensor.dates == "GLOBAL_RADAR_MTD_DATES.gpkg" and sensor.num_dates == 4
  assert sensor.quality_mask.id == "RADAR_CLOUD"
  assert sensor.quality_mask.bands == ("cloud",)
  assert any("quality mask of RADAR" in line for line in lines)


@pytest.mark.parametrize(
  ("dtypes", "expected"),
  [
    (("uint8", "uint16"), "files of one type"),
    (("float64", "float64"), "files of one type, uint8, uint16"),
  ],
)
def test_files_of_several_or_unknown_types_are_refused(
  dtypes, expected, tmp_path
):
  for i, dtype in enumerate(dtypes):
    values = rng.integers(0, 255, (3, 4, 4)).astype(dtype)
    write(tmp_path / f"RGB-{i}.tif", values)
  with pytest.raises(InputError, match=f"column RGB: expected {expected}"):
    derive(write_csv(tmp_path, ("RGB",), 2))


def test_bands_that_do_not_fit_the_dates_are_named(tmp_path):
  csv = series_folder(tmp_path)
  write(tmp_path / "RADAR-1.tif", np.zeros((7, 4, 4), np.float32), gsd=10)
  with pytest.raises(InputErrors) as error:
    derive(csv)
  assert "RADAR-1.tif: expected a multiple of 5 bands" in str(error.value)


def test_labels_without_any_image_are_no_data_set(tmp_path):
  write(tmp_path / "LABEL-0.tif", np.ones((1, 4, 4), np.uint8))
  with pytest.raises(InputError, match="at least one column of imagery"):
    derive(write_csv(tmp_path, ("LABEL",), 1))
