"""Derivation of a label task from label rasters."""

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np

from flairhub_jax.data import column_sample, geotiff
from flairhub_jax.errors import InputError
from flairhub_jax.schema import LabelClass, LabelTask

# More values than these are measurements, unless the column's name is that of
# labels.
_MAX_VALUES = 64
_MAX_CLASSES = 250


def derive_task(
  column: column_sample.Column, extent: float | None, guesses: list[str]
) -> LabelTask | None:
  """Returns the task of a column, or None if it holds measurements.

  Args:
    column: a column of rasters.
    extent: see `column_sample.find_gsd`.
    guesses: receives a line per assumption.

  Raises:
    InputError: labels that are no whole numbers, or of too many values.
  """
  header = column.headers[0]
  is_whole = header.dtype.startswith(("int", "uint"))
  is_like_labels = header.num_bands == 1 and is_whole and not column.num_dates
  if not (column.is_named_label or is_like_labels):
    return None
  if not is_whole:
    raise InputError(column.paths[0], "labels as whole numbers", header.dtype)
  counts, num_missing = _count_values(column)
  if not column.is_named_label:
    if len(counts) > _MAX_VALUES:
      return None
    guesses.append(
      f"{column.name}: taken for labels, since one band of whole numbers has"
      f" only {len(counts)} values"
    )
  ignored = (255,) if 255 in counts and len(counts) > 2 else ()
  values = [value for value in sorted(counts) if value not in ignored]
  if not 1 <= len(values) <= _MAX_CLASSES:
    raise InputError(
      f"column {column.name}", f"1 to {_MAX_CLASSES} labels", len(values)
    )
  guesses += _describe_values(column, counts, ignored, num_missing)
  return LabelTask(
    id=column.name,
    classes=tuple(
      LabelClass(
        name=f"class {value}",
        colour=column.colormap.get(value) or _colour(i),
        values=(value,),
      )
      for i, value in enumerate(values)
    ),
    gsd=column_sample.find_gsd(column, extent, guesses),
    num_bands=header.num_bands,
    ignored=ignored,
  )


def _describe_values(
  column: column_sample.Column,
  counts: Mapping[int, int],
  ignored: Sequence[int],
  num_missing: int,
) -> list[str]:
  """Returns lines about the classes and what is ignored."""
  total = sum(counts.values())
  where = f"{column.name}, classes"
  shares = ", ".join(
    f"{value} ({counts[value] / total:.2%})"
    for value in sorted(counts)
    if value not in ignored
  )
  lines = [
    f"{where}: values in {len(column.paths)} files: {shares}; edit their names,"
    " and add rarer classes"
  ]
  for value in ignored:
    lines.append(
      f"{column.name}, ignored: the value {value}"
      f" ({counts[value] / total:.2%}) is taken for unlabelled pixels"
    )
  if num_missing:
    lines.append(
      f"{column.name}, ignored: {num_missing / (total + num_missing):.2%} of"
      " the pixels are declared as without data"
    )
  num_bands = column.headers[0].num_bands
  if num_bands > 1:
    lines.append(f"{column.name}, band: the first of {num_bands}")
  return lines


def _count_values(column: column_sample.Column) -> tuple[dict[int, int], int]:
  """Counts the values of the first band, and the pixels without data."""
  counts: dict[int, int] = {}
  num_missing = 0
  for path in column.paths:
    values, missing, _ = geotiff.read_measurements(path)
    band = values[..., 0]
    if missing is not None:
      num_missing += int(missing[..., 0].sum())
      band = band[~missing[..., 0]]
    present, numbers = np.unique(band, return_counts=True)
    for value, number in zip(present.tolist(), numbers.tolist(), strict=True):
      counts[value] = counts.get(value, 0) + number
    if len(counts) > 65536:
      break
  wrong = [value for value in counts if not 0 <= value <= 65535]
  if wrong and column.is_named_label:
    raise InputError(column.paths[0], "labels from 0 to 65535", wrong[0])
  return counts, num_missing


def _colour(index: int) -> str:
  """Returns the colour of a class, unlike those of its neighbours."""
  hue = index * 0.618034 % 1
  rgb = colorsys.hsv_to_rgb(hue, 0.55 + 0.35 * (index % 2), 0.9)
  return f"#{bytes(round(255 * x) for x in rgb).hex()}"
