"""Sizes on the ground of the units of coordinate systems."""

import math

import rasterio.crs

# Of a degree along a meridian, in metres.
_METRES_PER_DEGREE = 111_320.0


def metres_per_unit(crs: str, latitude: float) -> tuple[float, float] | None:
  """Returns metres per unit to the east and to the north.

  Args:
    crs: coordinate system, as WKT.
    latitude: in degrees, for systems in degrees, whose units to the east
      shrink with its cosine.

  Returns:
    None for a system that is neither geographic nor projected.
  """
  system = rasterio.crs.CRS.from_wkt(crs)
  if system.is_geographic:
    shrinking = math.cos(math.radians(latitude))
    return _METRES_PER_DEGREE * shrinking, _METRES_PER_DEGREE
  if system.is_projected:
    factor = system.linear_units_factor[1]
    return factor, factor
  return None
