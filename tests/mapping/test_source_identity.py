"""What makes the rasters of a map others."""

import os
import shutil

import numpy as np
import pytest
import rasterio.shutil

from flairhub_jax.mapping import conversion, mosaic, source_identity
from tests.mapping import regions


def identity(path, change=None):
  tiles = mosaic.Mosaic([path], num_bands=4)
  if change is not None:
    tiles.convert(change)
  try:
    return source_identity.describe(tiles)
  finally:
    tiles.close()


@pytest.fixture
def path(tmp_path):
  return regions.write_raster(tmp_path / "a.tif", regions.image(40, 50))


def restore_time(path, status):
  os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_copy_with_names_and_times_is_the_same(path, tmp_path):
  (tmp_path / "other").mkdir()
  copy = shutil.copy2(path, tmp_path / "other" / "a.tif")
  assert identity(tmp_path / "other" / "a.tif") == identity(path)
  os.utime(copy, (0, 0))
  assert identity(tmp_path / "other" / "a.tif") != identity(path)


def test_other_content_of_the_same_size_and_time_is_another(path, tmp_path):
  before, status = identity(path), path.stat()
  regions.write_raster(path, regions.image(40, 50, seed=1))
  assert path.stat().st_size == status.st_size
  restore_time(path, status)
  assert identity(path) != before


def test_another_place_is_another(path):
  before, status = identity(path), path.stat()
  with rasterio.open(path, "r+") as raster:
    raster.transform = rasterio.Affine(0.2, 0, 700001, 0, -0.2, 6600000)
  restore_time(path, status)
  assert identity(path)["headers"] != before["headers"]


def test_the_sources_of_a_vrt_count(path, tmp_path):
  rasterio.shutil.copy(path, tmp_path / "v.vrt", driver="VRT")
  before = identity(tmp_path / "v.vrt")
  assert identity(tmp_path / "v.vrt") == before
  os.utime(path, (0, 0))
  assert identity(tmp_path / "v.vrt") != before


def test_a_mask_beside_a_raster_counts(path):
  before = identity(path)
  with (
    rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"),
    rasterio.open(path, "r+") as raster,
  ):
    raster.write_mask(np.eye(40, 50, dtype=bool))
  assert len(identity(path)["files"][0]) > len(before["files"][0])


def test_the_conversion_counts(path):
  first = conversion.Conversion((0, 1, 2, 3), np.dtype(np.uint8), 2.0)
  second = conversion.Conversion((3, 2, 1, 0), np.dtype(np.uint8), 2.0)
  results = [identity(path, change) for change in (None, first, second)]
  assert results[0] != results[1] != results[2]
