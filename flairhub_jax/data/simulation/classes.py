"""Simulated labels of any task, from the land cover of a scene."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Integer

from flairhub_jax import class_merge
from flairhub_jax.data import label_values
from flairhub_jax.data.simulation.scene import Scene
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import LabelTask, Schema

_COVER, _CROP = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"
_NONE = -1  # pixels without a class


def draw(scene: Scene, schema: Schema) -> dict[str, np.ndarray]:
  """Returns the labels of each label column on the grid of the scene, [h w n].

  The published tasks have the scene's classes of land cover and crops. A task
  with a parent subdivides the parent's classes by parcel; any other task maps
  each pair of cover and crop to a class, the same in all regions.

  Raises:
    InputError: no value is defined in all tasks of a band.
  """
  # Uniform in 0-1 and the same for all pixels of a parcel.
  parcel = np.clip((scene.tone.astype(np.float64) + 1) / 2, 0, 1 - 1e-9)
  drawn: dict[str, tuple[np.ndarray, np.ndarray]] = {}
  for task in schema.tasks.values():
    _draw_task(scene, schema, task, parcel, drawn)
  labels = {}
  for column, tasks in schema.label_columns.items():
    values = np.zeros(
      (*scene.cover.shape, tasks[0].num_bands),
      label_values.storage(tasks).dtype,
    )
    for band in {task.band for task in tasks}:
      readers = [task for task in tasks if task.band == band]
      table = _value_of_class(readers)
      classes, _ = drawn[readers[0].id]
      values[..., band] = table[classes]  # `_NONE` is the last row
    labels[column] = values
  return labels


def _draw_task(
  scene: Scene,
  schema: Schema,
  task: LabelTask,
  parcel: Float[np.ndarray, "h w"],
  drawn: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
  """Adds the classes of a task, and the unused digits of `parcel`, [h w]."""
  if task.id in drawn:
    return
  if task.parent is not None:
    above = schema.tasks[task.parent]
    _draw_task(scene, schema, above, parcel, drawn)
    drawn[task.id] = _divide(
      *drawn[above.id], class_merge.parents(task, above), above.num_classes
    )
    return
  for name, classes in ((_COVER, scene.cover), (_CROP, scene.crop)):
    published = FLAIR_HUB.tasks[name]
    if task.id == name and task.class_names == published.class_names:
      drawn[task.id] = classes.astype(int), parcel
      return
  code = scene.cover.astype(int) * 256 + scene.crop
  table = np.zeros(256 * 256, int)
  for pair in np.unique(code):
    draw = zlib.crc32(f"{task.id} {pair}".encode())
    table[pair] = draw % task.num_classes
  drawn[task.id] = table[code], parcel


def _divide(
  above: Int[np.ndarray, "h w"],
  parcel: Float[np.ndarray, "h w"],
  parents: Int[np.ndarray, "k"],
  num_above: int,
) -> tuple[Int[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
  """Returns a class of the level below for each pixel, and unused digits."""
  children = [np.flatnonzero(parents == k) for k in range(num_above)]
  counts = np.array([len(each) for each in children] + [0])
  table = np.full((num_above + 1, max(1, counts.max())), _NONE)
  for k, each in enumerate(children):
    table[k, : len(each)] = each
  scaled = parcel * counts[above]
  chosen = scaled.astype(int)
  return table[above, chosen], scaled - chosen


def _value_of_class(tasks: Sequence[LabelTask]) -> Integer[np.ndarray, "k"]:
  """Returns a stored value per class of the first task, defined in all tasks.

  The last entry is for pixels without a class.
  """
  task = tasks[0]
  every: Mapping[int, None] = dict.fromkeys(
    value
    for values in (
      *map(task.stored_values, range(task.num_classes)),
      task.ignored,
    )
    for value in values
    if not label_values.tasks_without(value, tasks, task.band)
  )
  if not every:
    names = ", ".join(each.id for each in tasks)
    raise InputError(
      f"tasks {names}",
      f"a value defined in all of them in band {task.band + 1}",
      "none",
    )
  usual = next(iter(every))
  table = [
    next((x for x in task.stored_values(k) if x in every), usual)
    for k in range(task.num_classes)
  ]
  ignored = next((x for x in task.ignored if x in every), usual)
  return np.array([*table, ignored])


def on_grid(
  labels: Integer[np.ndarray, "h w n"], height: int, width: int
) -> Integer[np.ndarray, "height width n"]:
  """Resamples labels to another size by nearest neighbour."""
  rows = (np.arange(height) + 0.5) * labels.shape[0] / height
  columns = (np.arange(width) + 0.5) * labels.shape[1] / width
  return labels[rows.astype(int)[:, None], columns.astype(int)]
