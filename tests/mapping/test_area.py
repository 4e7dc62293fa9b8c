import json

import numpy as np
import pytest
from rasterio import Affine

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import area
from flairhub_jax.mapping.grid import Grid

GROUND = Grid(None, Affine(1, 0, 0, 0, -1, 20), 20, 30)


def square(left, bottom, side, *height):
  right, top = left + side, bottom + side
  corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
  return [[*corner, *height] for corner in (*corners, corners[0])]


def read(path, *geometries):
  features = [
    {"type": "Feature", "properties": {}, "geometry": geometry}
    for geometry in geometries
  ]
  path.write_text(
    json.dumps({"type": "FeatureCollection", "features": features})
  )
  return area.Area(path, None)


def polygon(*rings):
  return {"type": "Polygon", "coordinates": rings}


def collection(*geometries):
  return {"type": "GeometryCollection", "geometries": geometries}


def test_polygons_of_all_shapes_are_pixels(tmp_path):
  point = {"type": "Point", "coordinates": [1, 1]}
  multi = {
    "type": "MultiPolygon",
    "coordinates": [[square(10, 0, 2)], [square(13, 0, 2)]],
  }
  region = read(
    tmp_path / "a.geojson",
    polygon(square(0, 0, 8, 5.0), square(2, 2, 3, 5.0)),
    None,
    point,
    multi,
    collection(point, collection(polygon(square(20, 10, 4)))),
  )
  expected = np.zeros((20, 30), bool)
  expected[12:, :8] = True
  expected[15:18, 2:5] = False
  expected[18:, 10:12] = expected[18:, 13:15] = True
  expected[6:10, 20:24] = True
  np.testing.assert_array_equal(region.on(GROUND)(0, 0, 20, 30), expected)
  assert region.bounds == (0, 0, 24, 14)


@pytest.mark.parametrize(
  "geometries",
  [(), (None,), (polygon(),), (collection(),)],
)
def test_files_without_polygons_are_refused(tmp_path, geometries):
  text = f"expected polygons, found {len(geometries)} shapes"
  with pytest.raises(InputError, match=text):
    read(tmp_path / "a.geojson", *geometries)


@pytest.mark.filterwarnings("ignore:Non closed ring:RuntimeWarning")
def test_invalid_shapes_are_refused(tmp_path):
  line = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 1]]]}
  with pytest.raises(InputError, match="expected valid shapes"):
    read(tmp_path / "a.geojson", line)
