import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

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
  actual, header = geotiff.read_raster(tmp_path / "a.tif")
  np.testing.assert_array_equal(actual, values)
  assert header == geotiff.read_header(tmp_path / "a.tif")
  assert header.georeference.transform == PLACE.transform
  assert '"2154"' in header.georeference.crs
  assert (header.num_bands, header.dtype) == (num_bands, dtype)


def test_a_two_dimensional_array_and_its_palette(tmp_path):
  values = np.arange(48, dtype=np.uint8).reshape(6, 8)
  palette = np.arange(150, dtype=np.uint8).reshape(50, 3)
  path = tmp_path / "map.tif"
  geotiff.write_raster(path, values, PLACE, palette=palette, description="x")
  actual, _ = geotiff.read_raster(path)
  np.testing.assert_array_equal(actual[..., 0], values)


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
  """GDAL would silently write every eighth pixel."""
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


# These files are made without a place where none is needed.
pytestmark = pytest.mark.filterwarnings(
  "ignore::rasterio.errors.NotGeoreferencedWarning"
)


def bent(path, values, **options):
  """Writes [c h w] with rasterio itself, for what `write_raster` never does."""
  options = {"transform": rasterio.Affine(*PLACE.transform)} | options
  with rasterio.open(
    path,
    "w",
    driver="GTiff",
    count=len(values),
    height=values.shape[1],
    width=values.shape[2],
    dtype=values.dtype,
    crs="EPSG:2154",
    **options,
  ) as raster:
    raster.write(values)
  return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_no_data_value_is_heeded_for_every_type(tmp_path, dtype):
  values = np.ones((2, 6, 8), dtype)
  values[1, 2, 3] = 7
  path = bent(tmp_path / "a.tif", values, nodata=7)
  actual, missing, _ = geotiff.read_measurements(path)
  assert np.argwhere(missing).tolist() == [[2, 3, 1]]
  assert np.isnan(actual[2, 3, 1]) == (dtype == "float32")


def test_masks_and_surplus_alpha_are_heeded(tmp_path):
  path = bent(tmp_path / "a.tif", np.ones((4, 6, 8), np.uint8))
  with rasterio.open(path, "r+") as raster:
    raster.colorinterp = [*raster.colorinterp[:3], ColorInterp.alpha]
  assert geotiff.read_measurements(path, 4)[1] is None
  values, missing, header = geotiff.read_measurements(path, 3)
  assert values.shape == (6, 8, 3) and missing is None
  assert header.num_bands == 3 == geotiff.read_header(path, 3).num_bands
  alpha = np.ones((4, 6, 8), np.uint8)
  alpha[3, 0] = 0
  bent(path, alpha)
  _, missing, _ = geotiff.read_measurements(path, 3)
  assert missing[0].all() and not missing[1:].any()
  mask = np.full((6, 8), True)
  mask[5] = False
  with rasterio.open(bent(path, alpha[:3]), "r+") as raster:
    raster.write_mask(mask)
  _, missing, _ = geotiff.read_measurements(path, 3)
  assert missing[5].all() and not missing[:5].any()


def test_scale_offset_and_complex_numbers_are_refused(tmp_path):
  path = bent(tmp_path / "a.tif", np.ones((1, 6, 8), np.uint16))
  with rasterio.open(path, "r+") as raster:
    raster.scales, raster.offsets = (0.0001,), (-0.1,)
  with pytest.raises(InputError, match=r"scale 0\.0001, offset -0\.1"):
    geotiff.read_raster(path)
  for name in ("complex64", "complex_int16"):
    options = dict(driver="GTiff", count=1, dtype=name, height=6, width=8)
    with rasterio.open(path, "w", **options):
      pass
    with pytest.raises(InputError, match=f"found {name}"):
      geotiff.read_header(path)


def test_a_small_file_of_a_huge_raster_is_refused(tmp_path):
  path = tmp_path / "a.tif"
  options = dict(driver="GTiff", count=1, dtype="uint8", sparse_ok=True)
  options |= dict(tiled=True, blockxsize=8192, blockysize=8192, BIGTIFF="YES")
  with rasterio.open(path, "w", width=10**6, height=10**6, **options):
    pass
  assert path.stat().st_size < 2**20
  with pytest.raises(InputError, match=r"at most \d+ bytes of pixels"):
    geotiff.read_raster(path)


def test_ground_control_points_give_the_place(tmp_path):
  corners = [(0, 0), (0, 8), (6, 0), (6, 8)]
  points = [
    GroundControlPoint(row, col, 7e5 + 0.2 * col, 6.3e6 - 0.2 * row)
    for row, col in corners
  ]
  values = np.ones((1, 6, 8), np.uint8)
  path = bent(tmp_path / "a.tif", values, gcps=points, transform=None)
  place = geotiff.read_header(path).georeference
  np.testing.assert_allclose(place.transform, PLACE.transform)
  assert "Lambert-93" in place.crs
  points[3].x += 5
  bent(path, values, gcps=points, transform=None)
  with pytest.raises(InputError, match="4 ground control points"):
    geotiff.read_header(path)
