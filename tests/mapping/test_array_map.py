"""`load_model(RUN).map`: the arrays are those of the files of `zonal`."""

import datetime
import types

import numpy as np
import pytest
import rasterio
import rasterio.io
import rasterio.vrt
from rasterio import Affine

import flairhub_jax
from flairhub_jax.errors import InputError
from flairhub_jax.mapping import open_raster
from tests.mapping import regions

SIDE, COSIA = regions.SIDE, regions.COSIA
NORTH_UP = Affine(0.2, 0, regions.ORIGIN[0], 0, -0.2, regions.ORIGIN[1])


class DataArray:
  """What `map` reads of a DataArray of xarray with rioxarray."""

  def __init__(self, values, dims, transform, crs, **coordinates):
    self.values, self.dims, self._coordinates = values, dims, coordinates
    self.rio = types.SimpleNamespace(
      x_dim="x", y_dim="y", crs=crs, nodata=None, transform=lambda: transform
    )

  def __getitem__(self, name):
    return types.SimpleNamespace(values=self._coordinates[name])

  def transpose(self, *dims):
    order = [self.dims.index(name) for name in dims]
    values = self.values.transpose(order)
    other = DataArray(values, dims, None, None)
    other.rio, other._coordinates = self.rio, self._coordinates
    return other


@pytest.fixture(scope="module")
def values():
  values = regions.image(75, 90)
  values[10:30, 20:45] = 0
  return values


@pytest.fixture(scope="module")
def raster(values, tmp_path_factory):
  folder = tmp_path_factory.mktemp("rasters")
  return regions.write_raster(folder / "aerial.tif", values, nodata=0)


@pytest.fixture(scope="module")
def files(run, raster):
  """Classes and stored probabilities of the map that `zonal` writes."""
  out = raster.with_name("map.tif")
  words = ("--overlap", 8, "--probabilities", "all")
  words += ("--probability-dtype", "float32")
  classes = regions.zonal(run, out, "--input", raster, *words)
  assert len(np.unique(classes)) > 2 and 255 in classes
  return classes, regions.read(out.with_name("map_probabilities.tif"))[0]


@pytest.fixture(scope="module")
def model(run):
  return flairhub_jax.load_model(run.path)


def check(result, files):
  """The map has exactly the values and the place of the files."""
  classes, expected = files
  np.testing.assert_array_equal(result.classes[COSIA], classes)
  assert result.transform == NORTH_UP
  assert rasterio.crs.CRS.from_wkt(result.crs).to_epsg() == 2154
  if result.probabilities:
    shares = result.probabilities[COSIA]
    assert shares.dtype == np.float32
    np.testing.assert_array_equal(shares, expected)


def test_an_open_dataset_gives_the_arrays_of_the_files(model, raster, files):
  with rasterio.open(raster) as dataset:
    result = model.map(dataset, overlap=8, probabilities=True)
    assert not dataset.closed
  assert result.probabilities[COSIA].shape == (75, 90, 19)
  check(result, files)


def test_datasets_of_memory_and_of_warping_are_mapped(model, raster, files):
  with (
    rasterio.io.MemoryFile(raster.read_bytes()) as memory,
    memory.open() as dataset,
    rasterio.vrt.WarpedVRT(dataset) as warped,
  ):
    check(model.map(dataset, overlap=8), files)
    check(model.map({"AERIAL_RGBI": warped}, overlap=8), files)


def test_a_data_array_is_mapped(model, values, files):
  array = DataArray(
    np.moveaxis(values, -1, 0), ("band", "y", "x"), NORTH_UP, "EPSG:2154"
  )
  array.rio.nodata = 0
  check(model.map(array, overlap=8), files)
  array.rio = None
  with pytest.raises(InputError, match="import rioxarray"):
    model.map(array)


def test_arrays_with_and_without_a_place(run, model, values, tmp_path):
  whole = np.maximum(values, 1)
  path = regions.write_raster(tmp_path / "a.tif", whole)
  expected = regions.zonal(run, tmp_path / "m.tif", "--input", path)
  placed = model.map((whole, NORTH_UP, "EPSG:2154"))
  check(placed, (expected, None))
  assert not placed.probabilities
  with pytest.warns(UserWarning, match="no CRS"):
    bare = model.map(whole)
  np.testing.assert_array_equal(bare.classes[COSIA], expected)
  assert bare.transform is None and bare.crs is None


def test_south_up_arrays_stay_south_up(model, values):
  whole = np.maximum(values, 1)
  expected = model.map((whole, NORTH_UP, 2154)).classes[COSIA]
  south_up = Affine(0.2, 0, NORTH_UP.c, 0, 0.2, NORTH_UP.f - 15)
  result = model.map((whole[::-1], south_up, 2154))
  np.testing.assert_array_equal(result.classes[COSIA], expected[::-1])
  assert result.transform == south_up


def test_a_program_is_compiled_once(model, values):
  rasters = [(np.maximum(values, 1)[:n], NORTH_UP, 2154) for n in (70, 50)]
  before = dict(model._window_networks)
  for raster in rasters:
    model.map(raster, batch_size=4)
  assert len(model._window_networks) == len(before) + 1


def test_a_series_equals_its_files(tmp_path):
  both = regions.write_run(
    tmp_path / "run",
    modalities=("AERIAL_RGBI", "SENTINEL2_TS"),
    pixels=256,
    **{"fusion.kind": "late_mean"},
  )
  aerial = regions.image(280, 260)
  stacked = regions.image(8, 7, 30, seed=1, dtype=np.uint16) * 10
  regions.write_raster(tmp_path / "aerial.tif", aerial)
  regions.write_raster(tmp_path / "s2.tif", stacked, pixel=10.24)
  (tmp_path / "dates.txt").write_text("20190105\n20190220\n20190601\n")
  mask = np.zeros((8, 7, 6), np.uint8)
  mask[..., 3] = 100
  regions.write_raster(tmp_path / "mask.tif", mask, pixel=10.24)
  expected = regions.zonal(
    both, tmp_path / "m.tif",
    "--input", f"AERIAL_RGBI={tmp_path / 'aerial.tif'}",
    "--input", f"SENTINEL2_TS={tmp_path / 's2.tif'}",
    "--dates", f"SENTINEL2_TS={tmp_path / 'dates.txt'}",
    "--mask", f"SENTINEL2_TS={tmp_path / 'mask.tif'}",
  )  # fmt: skip
  series = stacked.reshape(8, 7, 3, 10).transpose(2, 0, 1, 3)
  covers = mask.reshape(8, 7, 3, 2).transpose(2, 0, 1, 3)
  place = Affine(10.24, 0, regions.ORIGIN[0], 0, -10.24, regions.ORIGIN[1])
  dates = ["20190105", datetime.date(2019, 2, 20), np.datetime64("2019-06-01")]
  model = flairhub_jax.load_model(both.path)
  result = model.map(
    {
      "AERIAL_RGBI": (aerial, NORTH_UP, "EPSG:2154"),
      "SENTINEL2_TS": (series, place, "EPSG:2154"),
    },
    dates={"SENTINEL2_TS": dates},
    masks={"SENTINEL2_TS": (covers, place, "EPSG:2154")},
  )
  np.testing.assert_array_equal(result.classes[COSIA], expected)
  array = DataArray(
    series.transpose(0, 3, 1, 2), ("time", "band", "y", "x"), place, 2154,
    time=np.array(
      ["2019-01-05", "2019-02-20", "2019-06-01"], "datetime64[ns]"
    ),
  )  # fmt: skip
  again = model.map(
    {
      "AERIAL_RGBI": (aerial, NORTH_UP, "EPSG:2154"),
      "SENTINEL2_TS": array,
    },
    masks={"SENTINEL2_TS": (covers, place, "EPSG:2154")},
  )
  np.testing.assert_array_equal(again.classes[COSIA], expected)
  with pytest.raises(InputError, match=r"3 dates of this time series.*none"):
    model.map({"SENTINEL2_TS": series})
  for wrong, message in (
    (["2019-01-05", "2019-02-20"], "3 dates, as the rasters have, found 2"),
    ([0, 1, 2], "date 1: expected a date as YYYYMMDD, found '0'"),
    ("20190105", "a list of 3 dates"),
  ):
    with pytest.raises(InputError, match=message):
      model.map({"SENTINEL2_TS": series}, dates={"SENTINEL2_TS": wrong})
  with pytest.raises(InputError, match="only one"):
    model.map(aerial)


@pytest.mark.parametrize(
  ("raster", "message"),
  [
    (np.ones((8, 8), np.uint8), r"\[h w bands\], found the shape \(8, 8\)"),
    (np.ones((8, 8, 3), np.uint8), "4 bands"),
    (np.ones((8, 8, 4), np.int64), "type uint8 of AERIAL_RGBI, found int64"),
    (np.full((8, 8, 4), "1"), "an array of numbers"),
    ((np.ones((8, 8, 4), np.uint8), NORTH_UP), "a tuple of 2"),
    ((np.ones((8, 8, 4), np.uint8), (1, 2), None), "a transform"),
    ((np.ones((8, 8, 4), np.uint8), NORTH_UP, "moon"), "a coordinate system"),
    ({"SPOT": np.ones((8, 8, 4), np.uint8)}, "sensors of the network"),
    ({}, "those of any of AERIAL_RGBI"),
  ],
)
def test_wrong_rasters_are_refused(model, raster, message):
  with pytest.raises(InputError, match=message):
    model.map(raster)


def test_wrong_sizes_are_refused(model, values):
  for wrong in ({"window": 0}, {"batch_size": 0}, {"overlap": SIDE}):
    with pytest.raises(InputError):
      model.map((values, NORTH_UP, 2154), **wrong)


def test_blocks_beyond_an_array_have_no_data():
  values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
  values[0, 0, 0] = np.nan
  raster = open_raster.of_array(
    "here", values, is_series=False, transform=NORTH_UP, crs=None, no_data=[5]
  )
  block, missing = raster.read(-1, 1, 3, 4)
  assert missing[0].all() and missing[:, 2:].all()
  expected = np.where(missing[1:, :2], block[1:, :2], values[:, 1:])
  np.testing.assert_array_equal(block[1:, :2], expected)
  assert missing[1, 0].tolist() == [False, True, False, False]
  assert missing[1:, :2].sum() == 1
