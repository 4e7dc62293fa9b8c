"""Labels as records hold them, and their classes.

Records hold the values of the files. Which class a value stands for is a matter
of the task: several tasks may read one raster, and runs may merge classes.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int, Integer, Num, UInt8

from flairhub_jax.errors import InputError
from flairhub_jax.schema import NO_LABEL, UNKNOWN_LABEL, LabelTask

_NUM_VALUES = 2**16


@dataclasses.dataclass(frozen=True)
class Storage:
  """How records hold the labels of a column.

  Attributes:
    dtype: type of the values.
    no_data: value of pixels without data; no class has it, nor is it among the
      ignored values.
  """

  dtype: str
  no_data: int


def storage(tasks: Sequence[LabelTask]) -> Storage:
  """Returns how records hold the labels of the tasks of one column."""
  used = np.zeros(_NUM_VALUES, bool)
  for task in tasks:
    table = task.label_of_value
    used[: len(table)] |= table != UNKNOWN_LABEL
  is_small = not used[256:].any() and not used[:256].all()
  free = np.flatnonzero(~used[: 256 if is_small else _NUM_VALUES])
  if not free.size:
    raise InputError(
      f"tasks of {tasks[0].stream}",
      "a value of 0-65535 without a class, for pixels without data",
      "none",
    )
  no_data = NO_LABEL if not used[NO_LABEL] else int(free[-1])
  return Storage("uint8" if is_small else "uint16", no_data)


def store(
  values: Integer[np.ndarray, "h w n"],
  missing: Bool[np.ndarray, "h w n"] | None,
  tasks: Sequence[LabelTask],
) -> tuple[Integer[np.ndarray, "h w n"], dict[tuple[int, int], int]]:
  """Returns labels as records hold them, and the values without a class.

  Args:
    values: of a file, in any integer type.
    missing: mask of the file's no-data values; None: nowhere.
    tasks: tasks of the column.

  Returns:
    The stored values, where bands that no task reads are without data; and
    (band, value) -> number of pixels for each value that is neither a class
    nor an ignored value of every task of the band.
  """
  form = storage(tasks)
  stored = np.full(values.shape, form.no_data, form.dtype)
  unknown: dict[tuple[int, int], int] = {}
  for band in {task.band for task in tasks if task.band < values.shape[2]}:
    plane = values[..., band]
    hole = None if missing is None else missing[..., band]
    tables = [task.label_of_value for task in tasks if task.band == band]
    for value, number in _count(plane if hole is None else plane[~hole]):
      if not all(_has_value(table, value) for table in tables):
        unknown[band, value] = number
    # A value beyond the type is among the unknown ones.
    layer = plane.astype(form.dtype)
    stored[..., band] = (
      layer if hole is None else np.where(hole, form.no_data, layer)
    )
  return stored, unknown


def _has_value(table: UInt8[np.ndarray, "n"], value: int) -> bool:
  return 0 <= value < len(table) and bool(table[value] != UNKNOWN_LABEL)


def tasks_without(
  value: int, tasks: Sequence[LabelTask], band: int
) -> list[LabelTask]:
  """Returns the tasks of a band in which a stored value is undefined."""
  return [
    task
    for task in tasks
    if task.band == band and not _has_value(task.label_of_value, value)
  ]


def _count(values: Integer[np.ndarray, "..."]) -> list[tuple[int, int]]:
  """Returns each value that occurs with its number of pixels."""
  if values.dtype.name in ("uint8", "uint16"):
    counts = np.bincount(values.ravel())
    present = np.flatnonzero(counts)
    return list(zip(present.tolist(), counts[present].tolist(), strict=True))
  present, counts = np.unique(values, return_counts=True)
  return list(zip(present.tolist(), counts.tolist(), strict=True))


def count_classes(
  stored: Integer[np.ndarray, "h w n"], task: LabelTask
) -> Int[np.ndarray, "k"]:
  """Returns the number of pixels of each class of a task."""
  counts = np.bincount(stored[..., task.band].ravel())
  table = task.label_of_value[: len(counts)]
  of_label = np.bincount(
    table, weights=counts[: len(table)], minlength=NO_LABEL + 1
  )
  return of_label[: task.num_classes].astype(np.int64)


class Classes:
  """Stored values of one column -> classes of a task."""

  def __init__(self, task: LabelTask, form: Storage, known: LabelTask | None):
    """Prepares the mapping.

    Args:
      task: the task, perhaps with merged classes.
      form: how the records hold the column.
      known: the task with which the conversion checked every value; None if it
        did not.
    """
    self._task = task
    table = np.full(_NUM_VALUES, UNKNOWN_LABEL, np.uint8)
    table[: len(task.label_of_value)] = task.label_of_value
    table[form.no_data] = NO_LABEL
    self._table = table
    values = np.arange(task.num_classes)
    # Most data sets store the class itself: nothing to map or to check.
    self._is_identity = (
      known is not None
      and form == Storage("uint8", NO_LABEL)
      and np.array_equal(known.label_of_value, task.label_of_value)
      and np.array_equal(table[: task.num_classes], values)
      and (table[task.num_classes : NO_LABEL] == UNKNOWN_LABEL).all()
    )

  def __call__(
    self, stored: Num[np.ndarray, "h w n"]
  ) -> tuple[UInt8[np.ndarray, "h w"], list[int]]:
    """Returns the class of each pixel, and the values without a class."""
    plane = stored[..., self._task.band]
    if self._is_identity:
      return plane, []
    classes = self._table[plane]
    unknown = classes == UNKNOWN_LABEL
    if unknown.any():
      return classes, np.unique(plane[unknown]).tolist()
    return classes, []


def describe_unknown(
  column: str,
  tasks: Sequence[LabelTask],
  unknown: Mapping[tuple[int, int], tuple[int, int, str]],
) -> list[str]:
  """Returns a line per value without a class.

  Args:
    column: of the split CSV.
    tasks: tasks of the column.
    unknown: (band, value) -> pixels, patches, and the first patch.
  """
  lines = []
  for (band, value), (pixels, patches, first) in sorted(unknown.items()):
    names = ", ".join(task.id for task in tasks_without(value, tasks, band))
    lines.append(
      str(
        InputError(
          f"{column}, band {band + 1}",
          f"values of classes or ignored values of {names}",
          f"{value} in {pixels:,} pixels of {patches:,} patches, first {first}",
        )
      )
    )
  return lines
