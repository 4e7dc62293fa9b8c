"""Grids of pixels on the ground: rasters, the map, and windows of it."""

import dataclasses
import math
from typing import Any

import numpy as np
import rasterio
import rasterio.crs
import rasterio.warp
from rasterio import Affine

from flairhub_jax.data import ground_units
from flairhub_jax.errors import InputError

# Shears and turns below this, in pixels over a whole raster, are rounding.
_STRAIGHT = 1e-3


@dataclasses.dataclass(frozen=True)
class Grid:
  """Pixels on the ground.

  Attributes:
    crs: coordinate system as WKT; None if unknown.
    transform: from column and row to coordinates.
    height: rows.
    width: columns.
  """

  crs: str | None
  transform: Affine
  height: int
  width: int

  @property
  def is_placed(self) -> bool:
    """Whether it lies anywhere on the ground."""
    return self.crs is not None or not self.transform.is_identity

  @property
  def is_straight(self) -> bool:
    """Whether rows and columns run along the axes of the coordinates."""
    t = self.transform
    size = max(self.height, self.width)
    limit = _STRAIGHT * max(map(abs, (t.a, t.b, t.d, t.e)))
    return abs(t.b) * size <= limit and abs(t.d) * size <= limit

  @property
  def pixel_metres(self) -> tuple[float, float]:
    """Height and width of a pixel in metres; in its units without a CRS."""
    t = self.transform
    metres = None
    if self.crs is not None:
      _, y = at(t, self.width / 2, self.height / 2)
      metres = ground_units.metres_per_unit(self.crs, y)
    across, down = metres or (1.0, 1.0)
    return (
      math.hypot(t.b * across, t.e * down),
      math.hypot(t.a * across, t.d * down),
    )

  @property
  def bounds(self) -> tuple[float, float, float, float]:
    """Smallest x, smallest y, largest x, largest y."""
    corners = [
      at(self.transform, col, row)
      for col in (0, self.width)
      for row in (0, self.height)
    ]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)

  @property
  def north(self) -> tuple[float, float] | None:
    """Direction of the north on the ground: right and up, of length 1.

    None if the grid lies nowhere.
    """
    if not self.is_placed:
      return None
    t, (down, across) = self.transform, self.pixel_metres
    # Columns and rows, by the inverse of the transform; rows go down.
    right, up = -t.b * across, -t.a * down
    length = math.copysign(math.hypot(right, up), t.a * t.e - t.b * t.d)
    return right / length, up / length

  def part(self, row: int, col: int, height: int, width: int) -> "Grid":
    """Some rows and columns of it, or beyond it."""
    return Grid(
      self.crs,
      compose(self.transform, Affine.translation(col, row)),
      height,
      width,
    )

  def with_size(self, height: int, width: int) -> "Grid":
    """The same ground in other pixels."""
    scale = Affine.scale(self.width / width, self.height / height)
    return Grid(self.crs, compose(self.transform, scale), height, width)

  def flipped(self, rows: bool, columns: bool) -> "Grid":
    """The same ground with rows, columns or both in reverse order."""
    t = self.transform
    if rows:
      t = compose(t, Affine(1, 0, 0, 0, -1, self.height))
    if columns:
      t = compose(t, Affine(-1, 0, self.width, 0, 1, 0))
    return Grid(self.crs, t, self.height, self.width)

  def is_south_up(self) -> tuple[bool, bool]:
    """Whether its first row is the southern one; its first column, eastern.

    Inputs of networks have north up. False for a turned grid and for an image
    without a place.
    """
    if not self.is_placed or not self.is_straight:
      return False, False
    return self.transform.e > 0, self.transform.a < 0

  def describe(self) -> str:
    """Size, pixels and coordinate system, for the user."""
    down, across = self.pixel_metres
    unit = " m" if self.crs is not None else ""
    pixel = f"{across:.5g}{unit}"
    if abs(across - down) > 1e-3 * down:
      pixel = f"{across:.5g} x {down:.5g}{unit}"
    return (
      f"{self.height} x {self.width} pixels of {pixel}, {crs_name(self.crs)}"
    )

  def extent(self) -> str:
    """Its bounds, for errors."""
    left, bottom, right, top = self.bounds
    return f"{left:.8g}-{right:.8g} E, {bottom:.8g}-{top:.8g} N"


def compose(outer: Affine, inner: Affine) -> Affine:
  """The transform that applies `inner` first.

  Versions of affine differ in the operator for it.
  """
  return Affine(
    outer.a * inner.a + outer.b * inner.d,
    outer.a * inner.b + outer.b * inner.e,
    outer.a * inner.c + outer.b * inner.f + outer.c,
    outer.d * inner.a + outer.e * inner.d,
    outer.d * inner.b + outer.e * inner.e,
    outer.d * inner.c + outer.e * inner.f + outer.f,
  )


def at(transform: Affine, x: Any, y: Any) -> tuple[Any, Any]:
  """A transform of points; numbers or arrays."""
  return (
    transform.a * x + transform.b * y + transform.c,
    transform.d * x + transform.e * y + transform.f,
  )


def crs_name(crs: str | None) -> str:
  """Code or name of a coordinate system."""
  if crs is None:
    return "no CRS"
  system = rasterio.crs.CRS.from_wkt(crs)
  code = system.to_epsg()
  return f"EPSG:{code}" if code else system.to_wkt().split('"')[1]


def is_same_crs(crs: str | None, other: str | None) -> bool:
  """Whether two coordinate systems are one."""
  if crs is None or other is None:
    return crs is other
  if crs == other:
    return True
  first, second = map(rasterio.crs.CRS.from_wkt, (crs, other))
  code = first.to_epsg()
  return first == second or (code is not None and code == second.to_epsg())


def overlaps(bounds: tuple[float, ...], others: tuple[float, ...]) -> bool:
  """Whether two rectangles share ground."""
  return (
    bounds[0] < others[2]
    and others[0] < bounds[2]
    and bounds[1] < others[3]
    and others[1] < bounds[3]
  )


def transformed_bounds(
  bounds: tuple[float, float, float, float], crs: str, target: str
) -> tuple[float, float, float, float]:
  """Bounds in another coordinate system."""
  return rasterio.warp.transform_bounds(crs, target, *bounds)


def clip(
  grid: Grid, bounds: tuple[float, float, float, float], *, where: str
) -> Grid:
  """The pixels of a grid that touch a rectangle.

  Args:
    grid: straight or turned.
    bounds: in its coordinates.
    where: names the rectangle in errors.

  Raises:
    InputError: no pixel does.
  """
  if not overlaps(grid.bounds, bounds):
    left, bottom, right, top = bounds
    raise InputError(
      where,
      f"ground within the rasters ({grid.extent()})",
      f"{left:.8g}-{right:.8g} E, {bottom:.8g}-{top:.8g} N",
    )
  inverse = ~grid.transform
  corners = np.array(
    [at(inverse, x, y) for x in bounds[::2] for y in bounds[1::2]]
  )
  # A bound on the border of two pixels, up to rounding, takes one of them.
  low = np.floor(corners.min(0) + 1e-6).astype(int)
  high = np.ceil(corners.max(0) - 1e-6).astype(int)
  col, row = np.maximum(low, 0)
  last_col, last_row = np.minimum(high, (grid.width, grid.height))
  return grid.part(
    int(row), int(col), int(max(last_row - row, 1)), int(max(last_col - col, 1))
  )
