"""Mistakes with rasters that users report: refused, or a warning with a remedy.

The first word of each test names the mistake. What is right passes without a
word: also real rasters of other regions.
"""

import numpy as np
import pytest
import rasterio

from flairhub_jax import contract
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.mapping import input_check, inputs, layout
from tests.mapping import regions

# Values of some covers: red, green, blue, near infrared.
COVERS = {
  "meadow": (70, 90, 60, 170),
  "forest": (50, 65, 55, 140),
  "soil": (150, 125, 100, 160),
  "road": (130, 130, 130, 125),
  "water": (50, 60, 65, 25),
}


@pytest.fixture(scope="module")
def own():
  config = base.get_config()
  config.data.modalities = tuple(FLAIR_HUB.sensors)
  return contract.build(config.lock())


def scene(height=160, width=200, scale=1.0, dtype=np.uint8):
  """Fields of the covers above, with noise, [h w 4]."""
  rng = np.random.default_rng(0)
  covers = np.array(list(COVERS.values()))
  fields = rng.choice(
    5, (height // 20, width // 20), p=[0.4, 0.3, 0.2, 0.05, 0.05]
  )
  whole = covers[np.kron(fields, np.ones((20, 20), int))]
  return ((whole + rng.normal(0, 6, whole.shape)) * scale).clip(1).astype(dtype)


def spot(dtype=np.uint16):
  """The scene as reflectance of SPOT."""
  return scene(scale=6.0, dtype=dtype)


def elevation(height=80, width=100):
  """Surface and terrain: a slope with houses, [h w 2], metres."""
  terrain = np.add.outer(np.linspace(40, 60, height), np.linspace(0, 5, width))
  houses = np.kron(np.eye(height // 20, width // 20), np.ones((20, 20))) * 6
  return np.stack([terrain + houses, terrain], -1).astype(np.float32)


def write(
  tmp_path, values, name="a.tif", descriptions=(), colours=(), **profile
):
  path = regions.write_raster(tmp_path / name, values, **profile)
  regions.name_bands(path, descriptions, colours)
  return path


def opened(sensor, path, **options):
  return inputs.open_inputs(
    FLAIR_HUB, (sensor,), {sensor: inputs.SensorPaths(str(path), **options)}
  )


def warnings_of(own, sensor, path, **options):
  sensors = opened(sensor, path, **options)
  lines = input_check.check_values(own, sensors)
  inputs.close(sensors)
  return [line for line in lines if line.startswith("warning: ")]


def test_right_rasters_pass(own, tmp_path):
  assert not warnings_of(own, "AERIAL_RGBI", write(tmp_path, scene()))
  path = write(tmp_path, spot(), pixel=1.6)
  assert not warnings_of(own, "SPOT_RGBI", path)
  assert not warnings_of(own, "DEM_ELEV", write(tmp_path, elevation()))
  sensors = opened("AERIAL_RGBI", write(tmp_path, scene()))
  (line,) = input_check.check_values(own, sensors)
  inputs.close(sensors)
  mean = scene()[..., 3].mean()
  assert f"NIR {(mean - 106.59) / 39.78:+.1f}" in line


@pytest.mark.parametrize(
  ("size", "window", "text"),
  [
    (250, 512, "250 x 250 pixels are less than a window of 512 x 512"),
    (600, 250, "windows of 250 x 250 pixels, the training's had 512 x 512"),
  ],
)
def test_small_tiles_for_a_network_of_larger_ones(
  own, tmp_path, size, window, text
):
  sensors = opened("AERIAL_RGBI", write(tmp_path, regions.image(size, size)))
  plan = layout.plan(sensors, window=window)
  (line,) = input_check.check_size(own, sensors, plan)
  inputs.close(sensors)
  assert line.startswith("warning: ") and text in line


def test_surface_as_terrain(own, tmp_path):
  values = elevation()
  values[..., 1] = values[..., 0]
  (line,) = warnings_of(own, "DEM_ELEV", write(tmp_path, values))
  assert "DSM and DTM are equal everywhere, so that NDSM is 0" in line
  path = write(tmp_path, elevation()[..., :1])
  with pytest.raises(InputError, match=r"2 bands \(DSM, DTM\) of DEM_ELEV"):
    opened("DEM_ELEV", path)


def test_terrain_before_surface(own, tmp_path):
  values = elevation() + np.array([8, 0], np.float32)
  path = write(tmp_path, values[..., ::-1])
  (line,) = warnings_of(own, "DEM_ELEV", path)
  assert "negative in most pixels; --bands DEM_ELEV=2,1 exchanges" in line
  assert not warnings_of(own, "DEM_ELEV", path, bands=(1, 0))


def test_values_scaled_by_their_smallest_and_largest(own, tmp_path):
  values = scene().astype(np.float32)
  values = (values - values.min()) / (values.max() - values.min())
  path = write(tmp_path, values)
  with pytest.raises(InputError) as error:
    opened("AERIAL_RGBI", path)
  assert "expected type uint8 of AERIAL_RGBI, found float32" in str(error.value)
  assert "--scale AERIAL_RGBI=255 turns 0-1 into 0-255" in str(error.value)
  assert not warnings_of(own, "AERIAL_RGBI", path, scale=(255.0, 0.0))
  values = elevation()
  values = (values - values.min()) / (values.max() - values.min())
  (line,) = warnings_of(own, "DEM_ELEV", write(tmp_path, values))
  assert "as if scaled by their smallest and largest" in line
  assert "--scale DEM_ELEV=FACTOR,OFFSET" in line


def test_elevation_as_a_fifth_band(own, tmp_path):
  values = np.concatenate([scene(), scene()[..., :1]], -1)
  path = write(tmp_path, values)
  with pytest.raises(InputError) as error:
    opened("AERIAL_RGBI", path)
  assert "expected 4 bands (R, G, B, NIR)" in str(error.value)
  assert "--bands AERIAL_RGBI=1,2,3,4 takes the first 4" in str(error.value)
  assert not warnings_of(own, "AERIAL_RGBI", path, bands=(0, 1, 2, 3))


def test_8_bits_instead_of_reflectance(own, tmp_path):
  for dtype in (np.uint8, np.uint16):
    path = write(tmp_path, scene(dtype=dtype), pixel=1.6)
    (line,) = warnings_of(own, "SPOT_RGBI", path)
    assert "values fit in 8 bits" in line
    assert "the training's were calibrated reflectance" in line
    assert "--scale SPOT_RGBI=" in line


def test_reflectance_of_0_to_1(own, tmp_path):
  values = spot().astype(np.float32) / 10_000
  path = write(tmp_path, values, pixel=1.6)
  with pytest.raises(InputError, match="--scale SPOT_RGBI=10000 turns 0-1"):
    opened("SPOT_RGBI", path)
  sensors = opened("SPOT_RGBI", path, scale=(10_000.0, 0.0))
  mosaic = sensors["SPOT_RGBI"].mosaic
  restored, _ = mosaic.read(0, 0, 160, 200)
  inputs.close(sensors)
  assert restored.dtype == np.uint16
  np.testing.assert_allclose(restored.astype(float), spot(), atol=1)


def test_16_bits_instead_of_8(own, tmp_path):
  path = write(tmp_path, scene(scale=16, dtype=np.uint16))
  with pytest.raises(
    InputError, match="type uint8 of AERIAL_RGBI, found uint16"
  ):
    opened("AERIAL_RGBI", path)
  assert not warnings_of(own, "AERIAL_RGBI", path, scale=(1 / 16, 0.0))


def test_a_scale_in_the_file(own, tmp_path):
  path = write(tmp_path, spot(), pixel=1.6)
  with rasterio.open(path, "r+") as raster:
    raster.scales, raster.offsets = (1e-4,) * 4, (-0.1,) * 4
  with pytest.raises(InputError) as error:
    opened("SPOT_RGBI", path)
  assert "found scale 0.0001, offset -0.1; --scale SPOT_RGBI=FACTOR" in str(
    error.value
  )
  sensors = opened("SPOT_RGBI", path, scale=(1.0, -10.0))
  read, _ = sensors["SPOT_RGBI"].mosaic.read(0, 0, 160, 200)
  inputs.close(sensors)
  expected = np.maximum(spot().astype(int) - 10, 0)
  np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(
  ("descriptions", "colours", "bands"),
  [
    (("Blue", "Green", "Red", "NIR"), (), "3,2,1,4"),
    (("NIR", "R", "G", "B"), (), "2,3,4,1"),
    ((), ("blue", "green", "red", "undefined"), None),
  ],
)
def test_bands_that_are_named_in_another_order(
  own, tmp_path, descriptions, colours, bands
):
  path = write(tmp_path, scene(), "a.tif", descriptions, colours)
  with pytest.raises(InputError) as error:
    opened("AERIAL_RGBI", path)
  text = str(error.value)
  assert text.startswith(f"{path}, band 1: expected R of AERIAL_RGBI, found")
  flag = f"--bands AERIAL_RGBI={bands} takes them by name"
  if bands is None:
    flag = "--bands AERIAL_RGBI=1,2,3,4 takes them in the order of the file"
  assert flag in text
  opened("AERIAL_RGBI", path, bands=(2, 1, 0, 3))


def test_names_that_fit_or_say_nothing_pass(own, tmp_path):
  for descriptions, colours in (
    (("red", "Band 2 (green)", "", "PIR"), ()),
    (("layer 1", "layer 2", "layer 3", "layer 4"), ()),
    (("B 1", "B 2", "B 3", "B 4"), ()),
    (("20190101_R", "20190101_G", "20190101_B", "20190101_NIR"), ()),
    (("red edge", "short-wave infrared", "", ""), ()),
    ((), ("red", "green", "blue", "alpha")),
  ):
    path = write(tmp_path, scene(), "a.tif", descriptions, colours)
    assert not warnings_of(own, "AERIAL_RGBI", path)
  # Writers give any three bands these colours.
  infrared = scene()[..., [3, 0, 1, 2]]
  path = write(tmp_path, infrared, "b.tif", (), ("red", "green", "blue"))
  opened("AERIAL_RGBI", path)


def test_near_infrared_first_without_names(own, tmp_path):
  for sensor, values, pixel in (
    ("AERIAL_RGBI", scene(), 0.2),
    ("SPOT_RGBI", spot(), 1.6),
  ):
    path = write(tmp_path, values[..., [3, 0, 1, 2]], pixel=pixel)
    lines = warnings_of(own, sensor, path)
    assert f"--bands {sensor}=2,3,4,1" in lines[-1]
    assert "R is by far the brightest band" in lines[-1]
    assert not warnings_of(own, sensor, path, bands=(1, 2, 3, 0))


def test_bands_of_a_series_are_chosen_within_each_date(tmp_path):
  values = regions.image(8, 8, 22, dtype=np.uint16)  # two dates of 11 bands
  path = write(tmp_path, values, pixel=10.24)
  (tmp_path / "d.txt").write_text("20190101\n20190201\n")
  dates = str(tmp_path / "d.txt")
  with pytest.raises(InputError, match="--bands SENTINEL2_TS=… chooses those"):
    opened("SENTINEL2_TS", path, dates=dates)
  bands = (*range(9, -1, -1),)
  sensors = opened("SENTINEL2_TS", path, dates=dates, bands=bands)
  read, _ = sensors["SENTINEL2_TS"].mosaic.read(0, 0, 8, 8)
  inputs.close(sensors)
  expected = [*range(9, -1, -1), *range(20, 10, -1)]
  np.testing.assert_array_equal(read, values[..., expected])


def test_names_of_a_series_are_read_for_each_date(tmp_path):
  bands = FLAIR_HUB.sensors["SENTINEL2_TS"].bands
  names = [f"{date}_{band}" for date in (20190101, 20190201) for band in bands]
  values = regions.image(8, 8, 20, dtype=np.uint16)
  (tmp_path / "d.txt").write_text("20190101\n20190201\n")
  dates = str(tmp_path / "d.txt")
  path = write(tmp_path, values, "a.tif", names)
  inputs.close(opened("SENTINEL2_TS", path, dates=dates))
  names[12], names[13] = names[13], names[12]
  path = write(tmp_path, values, "b.tif", names)
  with pytest.raises(InputError, match="band 13: expected B04"):
    opened("SENTINEL2_TS", path, dates=dates)


def test_series_of_another_unit(own, tmp_path):
  (tmp_path / "d.txt").write_text("20190101\n20190201\n")
  dates = str(tmp_path / "d.txt")
  path = write(tmp_path, regions.image(8, 8, 20), pixel=10.24)
  (line,) = warnings_of(own, "SENTINEL2_TS", path, dates=dates)
  assert "values fit in 8 bits" in line and "reflectance x 10000" in line
  linear = np.random.default_rng(0).gamma(4, 0.03, (8, 8, 4))
  decibels = 10 * np.log10(linear).astype(np.float32)
  for values, number in ((linear.astype(np.float32), 0), (decibels, 1)):
    path = write(tmp_path, values, pixel=10.24)
    lines = warnings_of(own, "SENTINEL1-ASC_TS", path, dates=dates)
    assert len(lines) == number
  assert "as of decibels" in lines[0] and "10 ** (value / 10)" in lines[0]


def test_undeclared_no_data(own, tmp_path):
  values = elevation()
  values[:40] = -9999
  lines = warnings_of(own, "DEM_ELEV", write(tmp_path, values))
  assert "the value -9999 in 50.00% of the pixels counts as" in lines[0]
  assert "gdal_edit.py -a_nodata -9999" in lines[0]
  path = write(tmp_path, values, nodata=-9999)
  assert not warnings_of(own, "DEM_ELEV", path)
  values = scene()
  values[:16] = 0  # a black border
  (line,) = warnings_of(own, "AERIAL_RGBI", write(tmp_path, values))
  assert "0 in all bands in 10.00% of the pixels" in line
  assert "gdal_edit.py -a_nodata 0" in line


def test_bands_of_one_value(own, tmp_path):
  values = scene()
  values[..., 2:] = 90
  (line,) = warnings_of(own, "AERIAL_RGBI", write(tmp_path, values))
  assert "bands that hardly vary: B 90, NIR 90" in line


def test_dates_of_other_months_or_years(own):
  sensor = own.sensors["SENTINEL2_TS"]
  days = np.array(["2019-01-05", "2019-06-20"], "datetime64[D]").astype(int)
  months = (5, 6, 7)
  (line,) = input_check.check_dates(sensor, days, months)
  assert "1 of 2 dates, as 2019-01-05, lie in months without dates" in line
  assert not input_check.check_dates(sensor, days, None)
  (line,) = input_check.check_dates(sensor, days + np.array([0, 400]), None)
  assert "from 2019-01-05 to 2020-07-24" in line


REAL = {
  "ign_montpellier_fr/AERIAL_RGBI.tif": "AERIAL_RGBI",
  "naip_north_dakota_us/AERIAL_RGBI_20120731.tif": "AERIAL_RGBI",
  "naip_north_dakota_us/AERIAL_RGBI_20180716.tif": "AERIAL_RGBI",
  "rotterdam_a_nl/SPOTLIKE_RGBI.tif": "SPOT_RGBI",
  "ign_montpellier_fr/DEM_ELEV.tif": "DEM_ELEV",
  "virginia_dem_us/DEM_ELEV.tif": "DEM_ELEV",
  "bouconne_fr/SENTINEL2_TS.tif": "SENTINEL2_TS",
}


@pytest.mark.parametrize("name", REAL)
def test_real_rasters_pass(own, shared, name):
  path = shared / "real" / "zonal" / name
  dates = path.with_name("dates_SENTINEL2.txt")
  options = {"dates": str(dates)} if dates.exists() else {}
  assert not warnings_of(own, REAL[name], path, **options)


def test_real_patches_pass(own, shared):
  paths = sorted((shared / "real").glob("*/*/*/*_AERIAL_RGBI_*.tif"))
  paths = [path for path in paths if "flair2" not in str(path)]  # no infrared
  assert len(paths) == 12
  for path in paths:
    assert not warnings_of(own, "AERIAL_RGBI", path), path


@pytest.mark.parametrize(
  "name",
  [
    "naip_north_dakota_us/AERIAL_RGBI_20120731.tif",
    "rotterdam_a_nl/SPOTLIKE_RGBI.tif",
  ],
)
def test_real_rasters_with_near_infrared_first_are_detected(
  own, shared, tmp_path, name
):
  values, profile = regions.read(shared / "real" / "zonal" / name)
  path = write(
    tmp_path, values[..., [3, 0, 1, 2]], transform=profile["transform"],
    crs=profile["crs"],
  )  # fmt: skip
  lines = warnings_of(own, REAL[name], path)
  assert f"--bands {REAL[name]}=2,3,4,1" in lines[-1]
