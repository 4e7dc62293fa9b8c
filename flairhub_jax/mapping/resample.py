"""Values of a raster on another grid, without reading more than needed.

Where the grids agree, stored values are copied. Otherwise a method is chosen by
the sizes of the pixels: the nearest value if they are alike, the average over a
coarser pixel, bilinear interpolation for finer ones.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Num
from rasterio import Affine

from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping.grid import Grid

# Pixels whose sizes differ by less are alike.
ALIKE = 0.05
# Grids agree if no pixel is off by more than this, in pixels.
_ALIGNED = 0.01


@dataclasses.dataclass(frozen=True)
class Plan:
  """From pixels of one grid to those of another.

  Attributes:
    step: pixels of the source from a row to the next, and a column to the next.
    origin: row and column of the source at the corner of the target.
    shape: rows and columns of the target.
    affine: from column and row of the target to the source, where rows do not
      run along rows or columns; else None.
    method: "aligned", "nearest", "average" or "bilinear".
  """

  step: tuple[float, float]
  origin: tuple[float, float]
  shape: tuple[int, int]
  affine: Affine | None
  method: str


def make_plan(source: Grid, target: Grid, *, is_code: bool = False) -> Plan:
  """Chooses how to fill a target grid.

  Args:
    source: grid of the raster.
    target: grid to fill.
    is_code: whether values are codes, of which no average exists.
  """
  affine = grids.compose(~source.transform, target.transform)
  shape = (target.height, target.width)
  size = max(shape)
  is_turned = max(abs(affine.b), abs(affine.d)) * size > _ALIGNED
  steps = (
    float(np.hypot(affine.b, affine.e)),
    float(np.hypot(affine.a, affine.d)),
  )
  method = "nearest"
  if not is_code and max(steps) > 1 + ALIKE:
    method = "average"
  elif not is_code and min(steps) < 1 - ALIKE:
    method = "bilinear"
  if is_turned:
    return Plan(steps, (affine.f, affine.c), shape, affine, method)
  step, origin = (affine.e, affine.a), (affine.f, affine.c)
  is_aligned = all(
    abs(abs(s) - 1) * n <= _ALIGNED and abs(o - round(o)) <= _ALIGNED
    for s, o, n in zip(step, origin, shape, strict=True)
  )
  return Plan(step, origin, shape, None, "aligned" if is_aligned else method)


def block(plan: Plan) -> tuple[int, int, int, int]:
  """First row, first column, rows and columns to read, perhaps outside."""
  if plan.affine is not None:
    height, width = plan.shape
    corners = np.array(
      [grids.at(plan.affine, x, y) for x in (0, width) for y in (0, height)]
    )
    low = np.floor(corners.min(0)).astype(int) - 1
    high = np.ceil(corners.max(0)).astype(int) + 1
    columns, rows = (high - low).tolist()
    return int(low[1]), int(low[0]), rows, columns
  firsts, sizes = [], []
  for step, origin, size in zip(
    plan.step, plan.origin, plan.shape, strict=True
  ):
    low, high = sorted((origin, origin + step * size))
    if plan.method == "aligned":
      first, end = round(low), round(low) + size
    else:
      first, end = int(np.floor(low)) - 1, int(np.ceil(high)) + 1
    firsts.append(first)
    sizes.append(end - first)
  return firsts[0], firsts[1], sizes[0], sizes[1]


def apply(
  plan: Plan,
  values: Num[np.ndarray, "h w c"],
  missing: Bool[np.ndarray, "h w c"],
) -> tuple[Num[np.ndarray, "a b c"], Bool[np.ndarray, "a b c"]]:
  """Fills the target from the block that `block` names.

  Args:
    plan: of the two grids.
    values: of the block.
    missing: its values without data.

  Returns:
    Values in the same type, whole numbers rounded; and those without data: the
    ones of which less than half the weight has data.
  """
  row, column = block(plan)[:2]
  if plan.affine is not None:
    return _apply_turned(plan, values, missing, row, column)
  firsts = (row, column)
  if plan.method == "aligned":
    order = tuple(slice(None, None, 1 if s > 0 else -1) for s in plan.step)
    return values[order], missing[order]
  if plan.method == "nearest":
    places = []
    for axis in (0, 1):
      centres = plan.origin[axis] + plan.step[axis] * (
        np.arange(plan.shape[axis]) + 0.5
      )
      # A centre on a border takes the pixel before it in both directions.
      index = np.floor(centres - 1e-6).astype(int) - firsts[axis]
      places.append(np.clip(index, 0, values.shape[axis] - 1))
    index = np.ix_(*places)
    return values[index], missing[index]
  weights = (~missing).astype(np.float64)
  sums = np.where(missing, 0, values).astype(np.float64)
  for axis in (0, 1):
    points = plan.origin[axis] - firsts[axis]
    step, size = plan.step[axis], plan.shape[axis]
    along = _average if abs(step) > 1 else _interpolate
    sums = along(sums, points, step, size, axis)
    weights = along(weights, points, step, size, axis)
  return _divide(sums, weights, values.dtype)


def _divide(sums, weights, dtype):
  """Means by sums of values and of weights, and where they are missing."""
  missing = weights < 0.5 - 1e-6
  values = sums / np.where(missing, 1, weights)
  if np.issubdtype(dtype, np.integer):
    limits = np.iinfo(dtype)
    values = np.clip(np.rint(values), limits.min, limits.max)
  values[missing] = 0
  return values.astype(dtype), missing


def _average(
  x: Float[np.ndarray, "h w c"],
  origin: float,
  step: float,
  size: int,
  axis: int,
) -> np.ndarray:
  """Means over stretches of `step` pixels along an axis."""
  x = np.moveaxis(x, axis, 0)
  total = np.concatenate([np.zeros_like(x[:1]), np.cumsum(x, 0)])
  edges = np.clip(origin + step * np.arange(size + 1), 0, len(x))
  low = np.minimum(np.floor(edges).astype(int), len(x) - 1)
  share = (edges - low)[:, None, None]
  at_edges = total[low] * (1 - share) + total[low + 1] * share
  return np.moveaxis(np.diff(at_edges, axis=0) / step, 0, axis)


def _interpolate(
  x: Float[np.ndarray, "h w c"],
  origin: float,
  step: float,
  size: int,
  axis: int,
) -> np.ndarray:
  """Values between the centres of pixels along an axis."""
  x = np.moveaxis(x, axis, 0)
  points = origin + step * (np.arange(size) + 0.5) - 0.5
  low = np.floor(points).astype(int)
  share = (points - low)[:, None, None]
  last = len(x) - 1
  values = x[np.clip(low, 0, last)] * (1 - share)
  values += x[np.clip(low + 1, 0, last)] * share
  return np.moveaxis(values, 0, axis)


def _apply_turned(plan, values, missing, row, column):
  """Bilinear or nearest values at points; averages of several points."""
  height, width = plan.shape
  number = 1
  if plan.method == "average":
    number = int(np.ceil(max(plan.step)))
  weights = np.zeros((height, width, values.shape[-1]))
  sums = np.zeros_like(weights)
  offsets = (np.arange(number) + 0.5) / number
  source = np.where(missing, 0, values).astype(np.float64)
  has_data = (~missing).astype(np.float64)
  for down in offsets:
    for across in offsets:
      rows, columns = np.meshgrid(
        np.arange(height) + down, np.arange(width) + across, indexing="ij"
      )
      x, y = grids.at(plan.affine, columns, rows)
      x, y = x - column, y - row
      if plan.method == "bilinear":
        corners = _corners(x - 0.5, y - 0.5)
      else:
        nearest = np.floor(y).astype(int), np.floor(x).astype(int)
        corners = [(*nearest, np.ones_like(x))]
      for i, j, weight in corners:
        i = np.clip(i, 0, values.shape[0] - 1)
        j = np.clip(j, 0, values.shape[1] - 1)
        sums += source[i, j] * weight[..., None] / number**2
        weights += has_data[i, j] * weight[..., None] / number**2
  return _divide(sums, weights, values.dtype)


def _corners(x, y):
  left, top = np.floor(x).astype(int), np.floor(y).astype(int)
  across, down = x - left, y - top
  return [
    (top, left, (1 - down) * (1 - across)),
    (top, left + 1, (1 - down) * across),
    (top + 1, left, down * (1 - across)),
    (top + 1, left + 1, down * across),
  ]
