"""Layout of a map: its grid, its windows, and the pixels of each sensor.

The ground sampling distance of the network's inputs is that of its training,
within `resample.ALIKE`. Pixels of the finest sensor are not resampled, so that
the map has the grid of its raster, unless a resolution is given.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from rasterio import Affine

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping import resample, windows
from flairhub_jax.mapping.grid import Grid
from flairhub_jax.mapping.inputs import SensorInput

Bounds = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Layout:
  """Grid and windows of a map, and sizes of the inputs of the network.

  Attributes:
    grid: of the map, north up if it is straight.
    is_flipped: whether rows, and columns, of the written map are in reverse
      order, as those of the raster that gave the grid.
    rows: windows along rows of the map.
    columns: windows along its columns.
    pixels: sensor -> rows and columns of its pixels in a window.
    logits: rows and columns of the network's logits in a window.
    margin: pixels of the network left out around each window, as in the
      reference; None: windows are blended.
    notes: lines for the user.
  """

  grid: Grid
  is_flipped: tuple[bool, bool]
  rows: windows.Axis
  columns: windows.Axis
  pixels: Mapping[str, tuple[int, int]]
  logits: tuple[int, int]
  margin: int | None
  notes: tuple[str, ...]

  @property
  def shape(self) -> tuple[int, int]:
    """Rows and columns of a window in pixels of the map."""
    return self.rows.window, self.columns.window

  def window(self, row: int, column: int) -> Grid:
    """Grid of a window, by its numbers along rows and columns."""
    return self.grid.part(
      self.rows.starts[row], self.columns.starts[column], *self.shape
    )

  def output_grid(self) -> Grid:
    """Grid of the written map."""
    return self.grid.flipped(*self.is_flipped)


def plan(
  inputs: Mapping[str, SensorInput],
  *,
  window: int,
  overlap: int | None = None,
  margin: int | None = None,
  resolution: float | None = None,
  bounds: tuple[Bounds, str] | None = None,
  native_gsd: Sequence[str] = (),
) -> Layout:
  """Plans a map.

  Args:
    inputs: the rasters.
    window: rows and columns of a window, in pixels of the finest sensor.
    overlap: pixels that neighbouring windows share; None: a quarter.
    margin: pixels left out around each window, instead of blending.
    resolution: of the map, in metres (in units of a raster without CRS); None:
      that of the finest raster.
    bounds: part of the ground to map, and the name of the flag.
    native_gsd: sensors whose pixels are not resampled, whatever their size.

  Raises:
    InputError: sizes that do not fit, or bounds elsewhere.
  """
  finest = min(inputs, key=lambda n: min(inputs[n].mosaic.grid.pixel_metres))
  source = inputs[finest].mosaic.grid
  flips = source.is_south_up()
  grid = source.flipped(*flips)
  if bounds is not None:
    grid = grids.clip(grid, bounds[0], where=bounds[1])
  if resolution is None:
    # The size of pixels without a CRS is unknown.
    without_crs = [n for n, each in inputs.items() if not each.mosaic.grid.crs]
    native_gsd = (*native_gsd, finest, *without_crs)
  else:
    grid = _at_resolution(grid, resolution)
  gsds = {name: _input_gsd(each, native_gsd) for name, each in inputs.items()}
  down, across = grid.pixel_metres
  ground = window * gsds[finest]
  shape = max(1, round(ground / down)), max(1, round(ground / across))
  metres = shape[0] * down, shape[1] * across
  pixels = {
    name: (max(1, round(metres[0] / size)), max(1, round(metres[1] / size)))
    for name, size in gsds.items()
  }
  rows, columns = _axes(grid, shape, window, overlap, margin)
  return Layout(
    grid=grid,
    is_flipped=flips,
    rows=rows,
    columns=columns,
    pixels=pixels,
    logits=pixels[finest] if margin is not None else shape,
    margin=margin,
    notes=_notes(inputs, grid.part(0, 0, *shape), pixels),
  )


def _axes(grid, shape, window, overlap, margin):
  """Windows along rows and columns; sizes are given in the network's pixels."""
  if margin is not None:
    rows, columns = (round(margin * side / window) for side in shape)
    return (
      windows.cropped(grid.height, shape[0], rows, is_reversed=True),
      windows.cropped(grid.width, shape[1], columns),
    )
  shared = window // 4 if overlap is None else overlap
  rows, columns = (round(shared * side / window) for side in shape)
  return (
    windows.blended(grid.height, shape[0], rows),
    windows.blended(grid.width, shape[1], columns),
  )


def _input_gsd(each: SensorInput, native_gsd: Sequence[str]) -> float:
  """Ground sampling distance of a sensor in the network's inputs, in metres."""
  own, gsd = min(each.mosaic.grid.pixel_metres), each.sensor.gsd
  is_alike = abs(own / gsd - 1) <= resample.ALIKE
  return own if is_alike or each.sensor.id in native_gsd else gsd


def _at_resolution(grid: Grid, resolution: float) -> Grid:
  """The same ground in other pixels, or up to one more to cover all of it."""
  if not resolution > 0:
    raise InputError("--resolution", "metres above 0", resolution)
  down, across = (resolution / size for size in grid.pixel_metres)
  height = max(1, math.ceil(grid.height / down - 1e-3))
  width = max(1, math.ceil(grid.width / across - 1e-3))
  transform = grids.compose(grid.transform, Affine.scale(across, down))
  return Grid(grid.crs, transform, height, width)


def _notes(inputs, window, pixels) -> tuple[str, ...]:
  """Lines about all sensors."""
  return tuple(
    note
    for name, each in inputs.items()
    for note in _notes_of(each, window, pixels[name])
  )


def _notes_of(
  each: SensorInput, window: Grid, pixels: tuple[int, int]
) -> list[str]:
  """Lines about the resampling of a sensor, and warnings about its pixels."""
  name, gsd, grid = each.sensor.id, each.sensor.gsd, each.mosaic.grid
  method = resample.make_plan(grid, window.with_size(*pixels)).method
  method = {
    "aligned": "as stored",
    "average": "averaged",
    "bilinear": "interpolated",
    "nearest": "the nearest ones",
  }[method]
  size = window.pixel_metres[1] * window.width / pixels[1]
  files = len(each.mosaic.tiles)
  notes = [
    f"{name}: {files} file{'s' * (files > 1)}, {grid.describe()}; a window is"
    f" {pixels[0]} x {pixels[1]} of them, {method}"
  ]
  if method != "as stored":
    notes[0] = notes[0].replace("of them", f"pixels of {size:.5g}")
  notes += each.mosaic.notes
  if grid.crs is None:
    notes.append(
      f"warning: {name}: no CRS; its pixels are taken for those of {gsd:g}"
      " m on which the network was trained"
    )
  elif abs(size / gsd - 1) > resample.ALIKE:
    notes.append(
      f"warning: {name}: the network was trained on pixels of {gsd:g} m and"
      f" its inputs have {size:.5g} m; --resolution {gsd:g} resamples them"
    )
  return notes
