"""Polygons of a map: a coverage of its pixels."""

import numpy as np
import pyogrio
import pyogrio.raw
import pytest
import rasterio
import shapely
from rasterio import Affine
from scipy import ndimage

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import polygons
from tests.mapping import regions

PIXEL = 0.2


@pytest.fixture(scope="module")
def classes():
  rng = np.random.default_rng(0)
  noise = ndimage.gaussian_filter(rng.normal(size=(4, 90, 80)), [0, 3, 3])
  values = noise.argmax(0).astype(np.uint8)
  values[20:50, 20:50] = 1
  values[30:40, 30:40] = 6  # in a hole of it
  values[60:, 70:] = 255
  # Areas whose own pixels meet at corners.
  values[70:75, 10:15] = 7
  values[[71, 72, 73, 72], [12, 13, 12, 11]] = 8
  return values


@pytest.fixture(scope="module")
def written(classes, tmp_path_factory):
  folder = tmp_path_factory.mktemp("polygons")
  confidence = np.random.default_rng(1).integers(0, 251, classes.shape)
  confidence = np.where(classes == 255, 255, confidence).astype(np.uint8)
  for name, values in (("m", classes), ("c", confidence)):
    path = folder / f"{name}.tif"
    regions.write_raster(path, values[..., None], pixel=PIXEL, nodata=255)
  with rasterio.open(folder / "c.tif", "r+") as raster:
    raster.scales = (1 / 250,)
  files = polygons.MapFiles(regions.task(), folder / "m.tif", folder / "c.tif")
  polygons.write(folder / "p.gpkg", {"cover": files}, "me")
  meta, _, shapes, fields = pyogrio.raw.read(folder / "p.gpkg", layer="cover")
  table = dict(zip(meta["fields"], fields, strict=True))
  return folder, meta, shapely.from_wkb(shapes), table, confidence


def test_polygons_cover_the_pixels_with_data_once(classes, written):
  _, _, shapes, table, _ = written
  assert shapely.is_valid(shapes).all() and not shapely.is_empty(shapes).any()
  assert shapely.coverage_is_valid(shapes)
  has_data = classes != 255
  area = has_data.sum() * PIXEL**2
  assert table["area_m2"].sum() == pytest.approx(area)
  np.testing.assert_allclose(table["area_m2"], shapely.area(shapes))
  x, y = regions.ORIGIN
  map_shape = shapely.box(x, y - 90 * PIXEL, x + 80 * PIXEL, y)
  hole = shapely.box(
    x + 70 * PIXEL, y - 90 * PIXEL, x + 80 * PIXEL, y - 60 * PIXEL
  )
  difference = shapely.union_all(shapes) ^ (map_shape - hole)
  assert difference.area < 1e-6


def test_polygons_are_those_of_the_classes(classes, written):
  _, meta, shapes, table, _ = written
  assert meta["geometry_type"] == "Polygon" and "2154" in meta["crs"]
  for value in np.unique(classes[classes != 255]):
    number = ndimage.label(classes == value)[1]
    assert (table["class"] == value).sum() == number
  names = regions.task().class_names
  assert list(table["name"]) == [names[value] for value in table["class"]]
  # The square within the square.
  (inner,) = shapes[table["class"] == 6]
  assert inner.area == pytest.approx(100 * PIXEL**2, rel=0.2)
  around = shapes[table["class"] == 1]
  assert any(len(each.interiors) for each in around)
  assert not any(each.contains(inner.centroid) for each in around)


def test_borders_are_simplified(written):
  folder, _, shapes, _, _ = written
  _, exact = polygons.polygonise(folder / "m.tif")
  assert shapely.coverage_is_valid(exact) and len(exact) == len(shapes)
  x, y = regions.ORIGIN
  exact = shapely.transform(exact, lambda at: at * (PIXEL, -PIXEL) + (x, y))
  counts = [shapely.get_num_coordinates(each).sum() for each in (shapes, exact)]
  assert counts[0] < 0.7 * counts[1]
  assert shapely.hausdorff_distance(shapes, exact).max() < 4 * PIXEL


def test_mean_confidence(classes, written):
  _, _, _, table, confidence = written
  expected = []
  for value in np.unique(classes[classes != 255]):
    labels, number = ndimage.label(classes == value)
    index = np.arange(1, number + 1)
    expected += list(ndimage.mean(confidence / 250, labels, index))
  np.testing.assert_allclose(
    np.sort(table["confidence"]), np.sort(expected), rtol=1e-9
  )


def test_large_layers_are_averaged_by_parts(written, monkeypatch):
  folder, _, _, table, _ = written
  _, exact = polygons.polygonise(folder / "m.tif")
  monkeypatch.setattr(polygons, "_ROWS", 7)
  means = polygons.mean_values(exact, folder / "c.tif")
  np.testing.assert_allclose(means, table["confidence"])


def test_degrees_and_rasters_without_place(classes, tmp_path):
  for name, crs, transform in (
    ("d", "EPSG:4326", Affine(2e-6, 0, 2.0, 0, -2e-6, 46.0)),
    ("n", None, Affine.identity()),
  ):
    path = tmp_path / f"{name}.tif"
    regions.write_raster(
      path, classes[..., None], crs=crs, transform=transform, nodata=255
    )
    out = tmp_path / f"{name}.gpkg"
    files = polygons.MapFiles(regions.task(), path, None)
    polygons.write(out, {"cover": files}, "me")
    meta, _, _, fields = pyogrio.raw.read(out)
    table = dict(zip(meta["fields"], fields, strict=True))
    assert list(table) == ["class", "name", "area_m2" if crs else "area"]
    # A degree of longitude at 46 degrees: 77.47 km; of latitude: 111.14 km.
    pixel = 4e-12 * 77_466 * 111_143 if crs else 1
    total = (classes != 255).sum() * pixel
    assert sum(list(table.values())[2]) == pytest.approx(total, rel=1e-3)


def test_other_files_are_not_replaced(written, tmp_path):
  folder = written[0]
  polygons.check(folder / "p.gpkg", "me")
  polygons.check(folder / "q.gpkg", "me")
  (tmp_path / "x.gpkg").write_text("mine")
  for path, identity in (
    (folder / "p.gpkg", "you"),
    (tmp_path / "x.gpkg", "me"),
    (tmp_path / "x.shp", "me"),
    (tmp_path / "none" / "x.gpkg", "me"),
  ):
    with pytest.raises(InputError):
      polygons.check(path, identity)
