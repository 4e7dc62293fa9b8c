"""Areas on the ground, of pixels and of shapes."""

import math

import numpy as np
import rasterio.crs
import rasterio.warp
import shapely
from jaxtyping import Float

from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping.grid import Grid

# WGS 84: semi-major axis in metres, and eccentricity.
_AXIS = 6378137.0
_ECCENTRICITY = math.sqrt(0.0066943799901413165)
# Relative error of areas in a projection from which on it is told.
_DISTORTION = 0.01


def of_rows(grid: Grid) -> Float[np.ndarray, "h"]:
  """Area of a pixel in each row, in square metres.

  Degrees are on the ellipsoid WGS 84; a projection is taken as it is. Without a
  CRS, areas are in the units of the transform, squared.
  """
  t = grid.transform
  area = abs(t.a * t.e - t.b * t.d)
  if grid.crs is None:
    return np.full(grid.height, area)
  crs = rasterio.crs.CRS.from_wkt(grid.crs)
  if not crs.is_geographic:
    return np.full(grid.height, area * crs.linear_units_factor[1] ** 2)
  middle = np.arange(grid.height) + 0.5
  _, latitudes = grids.at(t, grid.width / 2, middle)
  return area * _square_degrees(np.asarray(latitudes), math.hypot(t.d, t.e))


def of_shapes(shapes: np.ndarray, crs: str | None) -> Float[np.ndarray, "n"]:
  """Areas of shapes, by the rules of `of_rows`."""
  if crs is None:
    return shapely.area(shapes)
  system = rasterio.crs.CRS.from_wkt(crs)
  if not system.is_geographic:
    return shapely.area(shapes) * system.linear_units_factor[1] ** 2

  def equal_area(degrees):
    x, latitudes = np.radians(degrees).T
    return np.stack([x, _north_of_equator(latitudes)], -1)

  return shapely.area(shapely.transform(shapes, equal_area))


def _square_degrees(latitudes, height):
  """Square metres of a square degree, mean over pixels of this height."""
  south = np.radians(np.clip(latitudes - height / 2, -90, 90))
  north = np.radians(np.clip(latitudes + height / 2, -90, 90))
  strips = (_north_of_equator(north) - _north_of_equator(south)) / height
  return np.abs(strips) * math.pi / 180


def _north_of_equator(latitudes):
  """Area from the equator to latitudes, per radian of longitude."""
  e, sine = _ECCENTRICITY, np.sin(latitudes)
  half = _AXIS**2 * (1 - e**2) / 2
  return half * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)


def warnings(grid: Grid) -> list[str]:
  """A line if areas in the projection differ from those on the ground."""
  if grid.crs is None or not rasterio.crs.CRS.from_wkt(grid.crs).is_projected:
    return []
  middle = grid.part(grid.height // 2, grid.width // 2, 1, 1)
  corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
  xs, ys = zip(
    *(grids.at(middle.transform, *each) for each in corners), strict=True
  )
  degrees = np.array(rasterio.warp.transform(grid.crs, "EPSG:4326", xs, ys))
  x, y = degrees - degrees.mean(1, keepdims=True)
  square = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
  true = square * _square_degrees(degrees[1].mean(), np.ptp(y))
  stored = of_rows(middle)[0]
  if not true > 0 or abs(stored / true - 1) <= _DISTORTION:
    return []
  return [
    f"warning: areas in {grids.crs_name(grid.crs)} are {stored / true:.3g}"
    " times those on the ground; map in a local or an equal-area projection"
  ]
