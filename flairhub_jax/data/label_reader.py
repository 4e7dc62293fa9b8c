"""Classes of the pixels of a patch, for the tasks of a run."""

import json
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from flairhub_jax.data import label_values, records
from flairhub_jax.errors import InputError, listed
from flairhub_jax.schema import LabelTask


class LabelReader:
  """Random access to the labels of the patches of a split."""

  def __init__(
    self, dataset: records.Dataset, split: str, tasks: Mapping[str, LabelTask]
  ):
    """Opens the streams of the tasks, each once.

    Args:
      dataset: has all tasks.
      split: name of the split.
      tasks: by id, perhaps with merged classes.
    """
    self._where = f"{dataset.folder}, split {split}"
    self._patches = dataset.open_stream(split, records.PATCH)
    self._streams = {}
    # Column -> task -> its classes.
    self._classes: dict[str, dict[str, label_values.Classes]] = {}
    for name, task in tasks.items():
      column = dataset.schema.tasks[name].stream
      self._streams[column] = dataset.open_stream(split, column)
      self._classes.setdefault(column, {})[name] = _classes(dataset, task)

  def __getitem__(self, index: int) -> dict[str, UInt8[np.ndarray, "h w"]]:
    """Returns the labels of a patch by task.

    Raises:
      InputError: a shard is damaged, or a value stands for no class.
    """
    labels = {}
    for column, tasks in self._classes.items():
      values = self._streams[column][index]["labels"]
      for name, classes in tasks.items():
        labels[name], unknown = classes(values)
        if unknown:
          patch = json.loads(bytes(self._patches[index]["json"]))
          raise InputError(
            f"{self._where}, patch {patch['patch_id']}, {column}",
            f"values of classes or ignored values of {name}",
            listed([str(value) for value in unknown]),
          )
    return labels


def _classes(dataset: records.Dataset, task: LabelTask) -> label_values.Classes:
  known = dataset.schema.tasks[task.id]
  if task.band != known.band:
    raise InputError(
      f"task {task.id}, band",
      f"{known.band} as {dataset.folder} has",
      task.band,
    )
  # The first version of the format checked no band but the first.
  is_checked = dataset.version > 1 or known.band == 0
  form = dataset.tasks[task.id].storage
  return label_values.Classes(task, form, known if is_checked else None)
