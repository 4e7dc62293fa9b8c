import numpy as np
import pytest

from flairhub_jax.data import geotiff
from flairhub_jax.errors import InputError

PLACE = geotiff.Georeference(
  "EPSG:2154", (0.2, 0.0, 7e5, 0.0, -0.2, 6.3e6), 6, 8
)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("num_bands", [1, 4, 30])
def test_round_trip(tmp_path, dtype, num_bands):
  rng = np.random.default_rng(0)
  values = (rng.random((6, 8, num_bands)) * 255).astype(dtype)
  geotiff.write_raster(tmp_path / "a.tif", values, PLACE)
  found, header = geotiff.read_raster(tmp_path / "a.tif")
  np.testing.assert_array_equal(found, values)
  assert header == geotiff.read_header(tmp_path / "a.tif")
  assert header.georeference.transform == PLACE.transform
  assert '"2154"' in header.georeference.crs
  assert (header.num_bands, header.dtype) == (num_bands, dtype)


def test_a_two_dimensional_array_and_its_palette(tmp_path):
  values = np.arange(48, dtype=np.uint8).reshape(6, 8)
  palette = np.arange(150, dtype=np.uint8).reshape(50, 3)
  path = tmp_path / "map.tif"
  geotiff.write_raster(path, values, PLACE, palette=palette, description="x")
  found, _ = geotiff.read_raster(path)
  np.testing.assert_array_equal(found[..., 0], values)


def test_a_raster_without_georeference_has_no_crs(tmp_path):
  place = geotiff.Georeference(None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 6, 8)
  geotiff.write_raster(tmp_path / "a.tif", np.zeros((6, 8), "u1"), place)
  assert geotiff.read_header(tmp_path / "a.tif").georeference == place


def test_a_failed_write_leaves_nothing(tmp_path):
  with pytest.raises(TypeError):
    geotiff.write_raster(tmp_path / "a.tif", np.zeros((6, 8), object), PLACE)
  assert list(tmp_path.iterdir()) == []


def test_missing_foreign_and_truncated_files_are_named(tmp_path):
  path = tmp_path / "a.tif"
  with pytest.raises(InputError, match=r"a\.tif.*no file"):
    geotiff.read_raster(path)
  path.write_text("<VRTDataset/>")
  with pytest.raises(InputError, match=r"a\.tif.*readable GeoTIFF"):
    geotiff.read_header(path)
  values = np.random.default_rng(0).integers(0, 255, (200, 200, 4), np.uint8)
  geotiff.write_raster(
    path, values, PLACE.__class__(PLACE.crs, PLACE.transform, 200, 200)
  )
  path.write_bytes(path.read_bytes()[:60_000])
  with pytest.raises(InputError, match=r"a\.tif.*readable GeoTIFF"):
    geotiff.read_raster(path)


def test_a_raster_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
  geotiff.write_raster(tmp_path / "a.tif", np.zeros((6, 8), "u1"), PLACE)
  monkeypatch.setattr(geotiff, "MAX_BYTES", 47)
  with pytest.raises(InputError, match="at most 47 bytes"):
    geotiff.read_raster(tmp_path / "a.tif")


def test_declared_no_data_becomes_nan(shared):
  path = shared / "real" / "zonal" / "virginia_dem_us" / "DEM_ELEV.tif"
  values, header = geotiff.read_raster(path)
  assert header.nodata is not None
  assert np.isnan(values).sum() == 276


def test_values_of_another_size_are_not_resampled(tmp_path):
  """GDAL would write every eighth pixel, without a word."""
  place = geotiff.Georeference("EPSG:2154", (1.6, 0, 9e5, 0, -1.6, 6e6), 8, 8)
  values = np.zeros((64, 64), np.uint8)
  with pytest.raises(InputError, match=r"8 x 8 pixels.*found 64 x 64"):
    geotiff.write_raster(tmp_path / "map.tif", values, place)
  assert not any(tmp_path.iterdir())


def test_the_same_ground_on_another_grid():
  """A turned raster keeps its corners."""
  place = geotiff.Georeference(None, (1.5, 0.5, 10, 0.25, -2, 20), 8, 12)
  finer = place.on_grid(32, 24)
  assert (finer.height, finer.width) == (32, 24)
  for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
    corners = [
      (
        a * column * g.width + b * row * g.height + c,
        d * column * g.width + e * row * g.height + f,
      )
      for g in (place, finer)
      for a, b, c, d, e, f in [g.transform]
    ]
    np.testing.assert_allclose(*corners)
