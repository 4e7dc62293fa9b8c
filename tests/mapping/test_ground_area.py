"""Areas of pixels."""

import numpy as np
import pytest
import rasterio.crs
from rasterio import Affine

from flairhub_jax.mapping import ground_area
from flairhub_jax.mapping.grid import Grid


def grid(code, transform, height=10, width=20):
  crs = rasterio.crs.CRS.from_epsg(code).to_wkt() if code else None
  return Grid(crs, transform, height, width)


def test_projections_are_taken_as_they_are():
  turned = Affine(0.12, 0.16, 7e5, 0.16, -0.12, 6.6e6)
  areas = ground_area.of_rows(grid(2154, turned))
  np.testing.assert_allclose(areas, 0.04)
  feet = ground_area.of_rows(grid(2263, Affine(2, 0, 1e6, 0, -3, 2e5)))
  np.testing.assert_allclose(feet, 6 * (1200 / 3937) ** 2)
  np.testing.assert_allclose(
    ground_area.of_rows(grid(None, Affine.scale(2, -2))), 4
  )


def test_degrees_add_up_to_the_ellipsoid():
  # 5.10065621724e14 m2: the surface of WGS 84 (NGA.STND.0036).
  whole = grid(4326, Affine(1, 0, -180, 0, -1, 90), 180, 360)
  total = 360 * ground_area.of_rows(whole).sum()
  assert total == pytest.approx(5.10065621724e14, rel=1e-9)
  coarse = grid(4326, Affine(360, 0, -180, 0, -90, 90), 2, 1)
  assert ground_area.of_rows(coarse).sum() == pytest.approx(total, rel=1e-9)
  # Turned by a quarter: longitude by row, latitude by column.
  t = Affine(0, 1e-5, 3.0, 1e-5, 0, 46.0)
  straight = Affine(1e-5, 0, 3.0, 0, -1e-5, 46.0 + 1e-4)
  np.testing.assert_allclose(
    ground_area.of_rows(grid(4326, t, 20, 20)).sum(),
    ground_area.of_rows(grid(4326, straight, 20, 20)).sum(),
    rtol=1e-5,
  )


def test_areas_of_distorting_projections_are_told():
  lambert = grid(2154, Affine(0.2, 0, 7e5, 0, -0.2, 6.6e6))
  assert ground_area.warnings(lambert) == []
  assert (
    ground_area.warnings(grid(4326, Affine(1e-6, 0, 3, 0, -1e-6, 46))) == []
  )
  (line,) = ground_area.warnings(
    grid(3857, Affine(0.3, 0, 3e5, 0, -0.3, 5.78e6))
  )
  # 1 / cos² of 46 degrees
  assert "EPSG:3857 are 2.0" in line


def test_the_north_of_grids():
  for transform, north in (
    (Affine(0.2, 0, 7e5, 0, -0.2, 6.6e6), (0, 1)),
    (Affine(0.2, 0, 7e5, 0, 0.2, 6.6e6), (0, -1)),
    (Affine(0, 0.2, 7e5, 0.2, 0, 6.6e6), (1, 0)),
    # Turned by 30 degrees; pixels are twice as wide as high.
    (Affine(3**0.5, 0.5, 7e5, 1, -(3**0.5) / 2, 6.6e6), (0.5, 3**0.5 / 2)),
  ):
    assert grid(2154, transform).north == pytest.approx(north)
  assert grid(None, Affine.identity()).north is None
