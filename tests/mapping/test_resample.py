import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.enums import ColorInterp

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import inputs, mosaic, resample
from flairhub_jax.mapping.grid import Grid
from tests.mapping import regions

X, Y = regions.ORIGIN


def grid(height, width, pixel=1.0, x=X, y=Y):
  return Grid(None, Affine(pixel, 0, x, 0, -pixel, y), height, width)


def sample(source, values, target, missing=None, **options):
  plan = resample.make_plan(source, target, **options)
  row, col, height, width = resample.block(plan)
  whole = np.zeros((height, width, values.shape[-1]), values.dtype)
  none = np.ones(whole.shape, bool)
  if missing is None:
    missing = np.zeros(values.shape, bool)
  for i in range(height):
    for j in range(width):
      if 0 <= row + i < len(values) and 0 <= col + j < values.shape[1]:
        whole[i, j] = values[row + i, col + j]
        none[i, j] = missing[row + i, col + j]
  return (*resample.apply(plan, whole, none), plan.method)


def test_stored_values_stay_where_grids_agree():
  values = regions.image(20, 30)
  part = grid(20, 30).part(3, 5, 10, 12)
  actual, missing, method = sample(grid(20, 30), values, part)
  assert method == "aligned" and not missing.any()
  np.testing.assert_array_equal(actual, values[3:13, 5:17])
  flipped = part.flipped(True, True)
  actual, _, method = sample(grid(20, 30), values, flipped)
  assert method == "aligned"
  np.testing.assert_array_equal(actual, values[3:13, 5:17][::-1, ::-1])


def test_pixels_outside_have_no_data():
  values = regions.image(20, 30)
  actual, missing, _ = sample(grid(20, 30), values, grid(25, 40, x=X - 5))
  assert missing[20:].all() and missing[:, :5].all() and missing[:, 35:].all()
  assert not missing[:20, 5:35].any()
  np.testing.assert_array_equal(actual[:20, 5:35], values)


def test_alike_pixels_take_the_nearest_value():
  values = regions.image(20, 30)
  actual, _, method = sample(grid(20, 30), values, grid(10, 10, x=X + 0.3))
  assert method == "nearest"
  np.testing.assert_array_equal(actual, values[:10, :10])


def test_coarser_pixels_are_averages_of_what_has_data():
  values = np.arange(24, dtype=np.float32).reshape(4, 6, 1)
  missing = np.zeros(values.shape, bool)
  missing[0, 0] = missing[:2, 4:] = True
  actual, none, method = sample(grid(4, 6), values, grid(2, 3, 2.0), missing)
  assert method == "average"
  assert actual[0, 0, 0] == pytest.approx((1 + 6 + 7) / 3)
  assert none[..., 0].tolist() == [[False, False, True], [False] * 3]
  assert actual[1, 1, 0] == pytest.approx((14 + 15 + 20 + 21) / 4)


def test_finer_pixels_are_interpolated_and_rounded():
  values = np.array([[[0], [100]]], np.uint8).repeat(2, 0)
  actual, _, method = sample(grid(2, 2), values, grid(8, 8, 0.25))
  assert method == "bilinear" and actual.dtype == np.uint8
  assert actual[4, :, 0].tolist() == [0, 0, 12, 38, 62, 88, 100, 100]
  codes, _, method = sample(grid(2, 2), values, grid(8, 8, 0.25), is_code=True)
  assert method == "nearest" and set(codes.ravel().tolist()) == {0, 100}


@pytest.mark.parametrize("method", ["nearest", "bilinear", "average"])
def test_turned_grids_give_the_values_of_a_plane(method):
  pixel = {"nearest": 1.0, "bilinear": 0.5, "average": 2.0}[method]
  rows, columns = np.mgrid[:60, :60] + 0.5
  values = (2 * columns + 3 * rows)[..., None].astype(np.float32)
  turn = Affine(1, 0, X + 25, 0, 1, Y - 25) @ Affine.rotation(30)
  target = Grid(None, turn @ Affine.scale(pixel, -pixel), 8, 8)
  actual, missing, chosen = sample(grid(60, 60), values, target)
  assert chosen == method and not missing.any()
  j, i = np.meshgrid(np.arange(8) + 0.5, np.arange(8) + 0.5)
  t = target.transform
  x, y = t.a * j + t.b * i + t.c, t.d * j + t.e * i + t.f
  plane = 2 * (x - X) + 3 * (Y - y)
  bound = {"nearest": 2.6, "bilinear": 1e-3, "average": 2.6}[method]
  np.testing.assert_allclose(actual[..., 0], plane, atol=bound)


def test_tiles_with_gaps_and_overlaps_are_one_raster(tmp_path):
  values = regions.image(40, 60)
  regions.write_raster(tmp_path / "whole.tif", values)
  for name, (row, col, height, width) in {
    "a": (0, 0, 25, 30), "b": (0, 20, 25, 40), "c": (22, 0, 18, 15)
  }.items():  # fmt: skip
    transform = Affine(0.2, 0, X + 0.2 * col, 0, -0.2, Y - 0.2 * row)
    part = values[row : row + height, col : col + width]
    regions.write_raster(tmp_path / f"{name}.tif", part, transform=transform)
  tiles = mosaic.Mosaic(
    [tmp_path / f"{name}.tif" for name in "abc"], num_bands=4
  )
  assert (tiles.grid.height, tiles.grid.width) == (40, 60)
  actual, missing = tiles.read(0, 0, 40, 60)
  has = np.zeros((40, 60), bool)
  has[:25] = has[22:, :15] = True
  np.testing.assert_array_equal(missing.any(-1), ~has)
  np.testing.assert_array_equal(actual[has], values[has])
  part, _ = inputs.read_part(tiles, tiles.grid.part(5, 7, 11, 13))
  np.testing.assert_array_equal(part, values[5:16, 7:20])
  tiles.close()


def test_no_data_of_tags_masks_and_sensors(tmp_path):
  values = np.full((8, 8, 2), 7, np.int16)
  values[0, 0] = -9
  values[1, 1, 0] = -9
  values[2, 2] = 5
  path = regions.write_raster(tmp_path / "tag.tif", values, nodata=-9)
  source = mosaic.Mosaic([path], num_bands=2, no_data=5)
  _, missing = source.read(0, 0, 8, 8)
  assert np.argwhere(missing.all(-1)).tolist() == [[0, 0], [2, 2]]
  assert missing.sum() == 5
  source.close()


def mark_alpha(path):
  with rasterio.open(path, "r+") as raster:
    raster.colorinterp = [*raster.colorinterp[:-1], ColorInterp.alpha]
  return path


def test_no_data_of_masks_and_alpha_in_a_window(tmp_path):
  values = regions.image(8, 8, 3)
  values[2:4, 5] = 0
  for bands in (2, 3):
    path = regions.write_raster(tmp_path / f"{bands}.tif", values)
    source = mosaic.Mosaic([mark_alpha(path)], num_bands=bands)
    part, missing = source.read(1, 4, 5, 3)
    np.testing.assert_array_equal(part, values[1:6, 4:7, :bands])
    # A band that is expected is no alpha band.
    rows = [[1, 1], [2, 1]] if bands == 2 else []
    assert np.argwhere(missing.any(-1)).tolist() == rows
    source.close()
  path = regions.write_raster(tmp_path / "mask.tif", values)
  mask = np.full((8, 8), True)
  mask[3, 6] = False
  with rasterio.open(path, "r+") as raster:
    raster.write_mask(mask)
  source = mosaic.Mosaic([path], num_bands=3)
  _, missing = source.read(1, 4, 5, 3)
  assert np.argwhere(missing.all(-1)).tolist() == [[2, 2]]
  assert missing.sum() == 3
  source.close()


@pytest.mark.parametrize("bands", [1, 2, 3])
def test_alpha_bands_of_warped_rasters(tmp_path, bands):
  crs = rasterio.CRS.from_epsg(32631).to_wkt()
  values = regions.image(40, 40, bands + 1)
  values[..., -1] = 255
  for name, num_bands in (("plain", bands + 1), ("alpha", bands)):
    path = regions.write_raster(tmp_path / f"{name}.tif", values)
    if name == "alpha":
      mark_alpha(path)
    source = mosaic.Mosaic([path], num_bands=num_bands, target_crs=crs)
    grid = source.grid
    part, missing = source.read(0, 0, grid.height, grid.width)
    assert part.shape[-1] == num_bands and not missing[5:35, 5:35].any()
    assert (part[~missing] != 0).all()
    source.close()
  with pytest.raises(InputError, match="expected no band of measurements"):
    mosaic.Mosaic([path], num_bands=bands + 1, target_crs=crs)


def test_a_series_of_one_band_per_date_has_no_alpha_band(tmp_path):
  path = mark_alpha(
    regions.write_raster(tmp_path / "a.tif", regions.image(8, 8, 4))
  )
  source = mosaic.Mosaic([path], num_bands=1)
  assert source.num_bands == 4
  source.close()
