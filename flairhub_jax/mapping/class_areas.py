"""Areas of the classes of a map, whole and by zone, as tables.

A map is wrong in places, and the areas of its classes with it. From a confusion
matrix follow unbiased areas and their standard errors, if its pixels are a
random sample of each mapped class: Olofsson et al. 2014, Remote Sensing of
Environment 148, 42-57, equations 9 to 11.
"""

import csv
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import rasterio.features
from jaxtyping import Float, Int
from rasterio import Affine, windows

from flairhub_jax import atomic, run_directory, text_table
from flairhub_jax.errors import InputError
from flairhub_jax.mapping import area, ground_area, output
from flairhub_jax.mapping import grid as grids
from flairhub_jax.schema import NO_LABEL, LabelTask

# Of 95 % of a normal distribution.
_QUANTILE = 1.96
# Pixels in memory at once, about.
_PIXELS = 2**22
# Square metres of a hectare.
_HECTARE = 10_000


class Areas(NamedTuple):
  """Areas of classes.

  Attributes:
    pixels: of each class.
    metres: square metres of each class; None if the map has no CRS.
  """

  pixels: Int[np.ndarray, "k"]
  metres: Float[np.ndarray, "k"] | None

  @property
  def shares(self) -> Float[np.ndarray, "k"]:
    """Percent of the ground with data."""
    sizes = self.pixels if self.metres is None else self.metres
    return 100 * sizes / max(sizes.sum(), 1e-300)


class Adjusted(NamedTuple):
  """Areas of classes on the ground, estimated from errors of the map.

  Attributes:
    metres: square metres of each class.
    interval: half of the interval of 95 %.
  """

  metres: Float[np.ndarray, "k"]
  interval: Float[np.ndarray, "k"]


def measure(
  path: pathlib.Path, num_classes: int, shape: Mapping[str, Any] | None = None
) -> Areas:
  """Areas of a map of classes, or of its pixels with centres in a shape.

  Args:
    path: the map.
    num_classes: of its task.
    shape: GeoJSON in its coordinate system; None: all of it.
  """
  grid = output.read_grid(path)
  row_areas = ground_area.of_rows(grid)
  pixels, metres = np.zeros(num_classes, np.int64), np.zeros(num_classes)
  with output.open_map(path) as raster:
    for window in _windows(grid, shape):
      values = raster.read(1, window=window)
      if shape is not None:
        corner = Affine.translation(window.col_off, window.row_off)
        transform = grids.compose(grid.transform, corner)
        values[_outside(shape, values.shape, transform)] = NO_LABEL
      for row, line in enumerate(values, window.row_off):
        counts = np.bincount(line, minlength=num_classes)[:num_classes]
        pixels += counts
        metres += counts * row_areas[row]
  return Areas(pixels, None if grid.crs is None else metres)


def _outside(shape, size, transform) -> np.ndarray:
  return rasterio.features.geometry_mask([shape], size, transform)


def _windows(grid, shape) -> list[windows.Window]:
  """Rows of a map, or of the rectangle around a shape, some at once."""
  left, top, right, bottom = 0, 0, grid.width, grid.height
  if shape is not None:
    bounds = rasterio.features.bounds(shape)
    inverse = ~grid.transform
    corners = np.array(
      [grids.at(inverse, x, y) for x in bounds[::2] for y in bounds[1::2]]
    )
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int).tolist()
    ends = np.minimum(np.ceil(corners.max(0)), (grid.width, grid.height))
    right, bottom = ends.astype(int).tolist()
  if left >= right or top >= bottom:
    return []
  step = max(1, _PIXELS // (right - left))
  return [
    windows.Window(left, row, right - left, min(step, bottom - row))
    for row in range(top, bottom, step)
  ]


def read_confusion(
  path: pathlib.Path, tasks: Mapping[str, LabelTask]
) -> dict[str, Int[np.ndarray, "k k"]]:
  """Confusion matrices of a scores.json of `flairhub evaluate`, rows true.

  Raises:
    InputError: it has none for these tasks.
  """
  scores = run_directory.read_json(path).get("tasks")
  matrices = {}
  for task, row in tasks.items():
    values = scores.get(task) if isinstance(scores, dict) else None
    stored = values.get("confusion") if isinstance(values, dict) else None
    size = row.num_classes
    try:
      matrix = np.array(stored, np.float64)
    except (ValueError, TypeError, OverflowError):
      matrix = np.zeros(0)
    is_whole = np.isfinite(matrix).all() and (matrix == np.rint(matrix)).all()
    if (
      matrix.shape != (size, size)
      or not is_whole
      or not 0 <= matrix.min() <= matrix.max() < 2**53
    ):
      raise InputError(
        f"{path}: tasks.{task}.confusion",
        f"{size} x {size} counts of pixels",
        "none or others",
      )
    matrices[task] = matrix.astype(np.int64)
  return matrices


def adjust(
  metres: Float[np.ndarray, "k"], confusion: Int[np.ndarray, "k k"]
) -> Adjusted:
  """Error-adjusted areas; NaN if a mapped class has below 2 evaluated pixels.

  Args:
    metres: mapped area of each class.
    confusion: rows true, columns mapped.
  """
  total = metres.sum()
  weights = metres / max(total, 1e-300)
  mapped = weights > 0
  samples = confusion[:, mapped].astype(np.float64)
  numbers, weights = samples.sum(0), weights[mapped]
  if (numbers < 2).any():
    unknown = np.full(len(metres), np.nan)
    return Adjusted(unknown, unknown)
  shares = samples / numbers
  variances = shares * (1 - shares) / (numbers - 1)
  errors = np.sqrt(variances @ weights**2)
  return Adjusted(total * (shares @ weights), _QUANTILE * total * errors)


Row = dict[str, Any]


def rows(
  task: LabelTask, areas: Areas, adjusted: Adjusted | None = None
) -> list[Row]:
  """Rows of a table, one for each class."""
  table: list[Row] = []
  for value, name in enumerate(task.class_names):
    row: Row = {
      "class": value,
      "name": name,
      "pixels": int(areas.pixels[value]),
    }
    if areas.metres is not None:
      row["area_m2"] = float(areas.metres[value])
      row["area_ha"] = row["area_m2"] / _HECTARE
    row["share_percent"] = float(areas.shares[value])
    if adjusted is not None:
      row["adjusted_ha"] = float(adjusted.metres[value]) / _HECTARE
      row["interval95_ha"] = float(adjusted.interval[value]) / _HECTARE
    table.append(row)
  return table


def zone_rows(
  path: pathlib.Path, task: LabelTask, features: Sequence[area.Feature]
) -> list[Row]:
  """Rows of the classes that occur in each zone."""
  return [
    {"zone": each.number, "zone_name": each.name, **row}
    for each in features
    for row in rows(task, measure(path, task.num_classes, each.shape))
    if row["pixels"]
  ]


def write_csv(path: pathlib.Path, table: Sequence[Row]) -> None:
  """Writes a table; one without rows has no header."""
  text = io.StringIO()
  writer = csv.DictWriter(text, list(table[0]) if table else [])
  writer.writeheader()
  writer.writerows(table)
  atomic.write_text(path, text.getvalue())


def as_text(table: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
  """Headers and cells of a table for reading, without classes that are absent.

  Areas are in hectares, and in square metres where those are small.
  """
  shown = [row for row in table if row["pixels"] or row.get("adjusted_ha")]
  headers, lines = (
    ["class", "pixels"],
    [[row["name"], str(row["pixels"])] for row in shown],
  )
  columns = [("area_m2", "m²", ".1f"), ("area_ha", "ha", ".4f")]
  columns.append(("share_percent", "share %", ".2f"))
  for key, header, form in columns:
    if table and key in table[0]:
      headers.append(header)
      for row, line in zip(shown, lines, strict=True):
        line.append(format(row[key], form))
  if table and "adjusted_ha" in table[0]:
    headers.append("adjusted ha")
    for row, line in zip(shown, lines, strict=True):
      line.append(f"{row['adjusted_ha']:.4f} ± {row['interval95_ha']:.4f}")
  return headers, lines


def format_rows(table: Sequence[Row]) -> str:
  """The table for the terminal."""
  return text_table.format_table(*as_text(table))
