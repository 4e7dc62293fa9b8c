"""Classes of a map: those of the network, with a bias, or merged."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flairhub_jax.errors import InputError
from flairhub_jax.inference import bias as biases
from flairhub_jax.inference import coarser
from flairhub_jax.mapping.network import Groups
from flairhub_jax.schema import LabelTask


@dataclasses.dataclass(frozen=True)
class MapClasses:
  """Classes by task.

  Attributes:
    of_network: the classes that networks predict.
    of_map: the classes that are written.
    bias: what is added to the logits of the classes of a network.
    groups: of the tasks with merged classes, the position of the merged class
      of each class.
  """

  of_network: Mapping[str, LabelTask]
  of_map: Mapping[str, LabelTask]
  bias: biases.Bias
  groups: Groups

  def origin(self) -> dict[str, Any]:
    """What the metadata of a map say of bias and merged classes."""
    merge = {name: self._members(name) for name in self.groups}
    parts = {"bias": self.bias, "merge": merge}
    return {name: part for name, part in parts.items() if part}

  def _members(self, task: str) -> list[tuple[str, list[str]]]:
    """Each merged class of a task, and its classes, in order."""
    names = self.of_network[task].class_names
    return [
      (
        new,
        [n for n, g in zip(names, self.groups[task], strict=True) if g == i],
      )
      for i, new in enumerate(self.of_map[task].class_names)
    ]


def parse(
  tasks: Mapping[str, LabelTask],
  bias: Sequence[str],
  merge: Sequence[str],
) -> MapClasses:
  """Reads the words of `--bias` and `--merge`.

  Args:
    tasks: of the network by id.
    bias: words of `bias.parse`, of the classes of the network.
    merge: words of `coarser.of_files`, one per task at most.

  Raises:
    InputError: another form, an unknown task or class, a file that cannot be
      read, or a task twice.
  """
  merged, groups = dict(tasks), {}
  for level in coarser.of_files(merge, tasks):
    if level.task in groups:
      raise InputError("--merge", f"{level.task} once", "it twice")
    merged[level.task] = level.table
    groups[level.task] = tuple(level.groups.tolist())
  return MapClasses(tasks, merged, biases.parse(bias, tasks), groups)
