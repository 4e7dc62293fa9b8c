"""Scores on coarser classes than those of the network.

The confusion matrix of merged classes sums cells of the network's matrix, so
inference is not repeated. Pixels of an unscored class count for its merged
class if another of its classes is scored, as they do for a network trained on
the merged classes.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from flairhub_jax import class_merge, run_directory, text_table
from flairhub_jax.errors import InputError
from flairhub_jax.inference import report
from flairhub_jax.schema import LabelTask, Schema


@dataclasses.dataclass(frozen=True)
class Level:
  """Coarser classes of a task.

  Attributes:
    task: id of the network's task.
    name: id of a task above it, or file name of a merge.
    title: for headings.
    table: label task with the coarser classes.
    groups: index of the coarser class of each class.
  """

  task: str
  name: str
  title: str
  table: LabelTask
  groups: Int[np.ndarray, "k"]

  def scored(self, scored: Bool[np.ndarray, "k"]) -> Bool[np.ndarray, "m"]:
    """Returns which coarser classes are scored, given the scored classes."""
    result = np.zeros(self.table.num_classes, bool)
    result[self.groups[scored]] = True
    return result & self.table.scored


def above(schema: Schema, tasks: Mapping[str, LabelTask]) -> list[Level]:
  """Returns all levels above the tasks of a network.

  Merged classes have no class on the level above.

  Args:
    schema: with the tasks of all levels.
    tasks: label tasks of the network by id.
  """
  levels = []
  for name, task in tasks.items():
    groups, lower = np.arange(task.num_classes), task
    chain = []
    while lower.parent is not None:
      upper = schema.tasks[lower.parent]
      groups = class_merge.parents(lower, upper)[groups]
      chain.append((upper, groups))
      lower = upper
    # Without the name of the top level, with which its levels may begin.
    own = task.short_name.removeprefix(f"{lower.short_name}, ")
    levels += [
      Level(name, upper.id, f"{upper.short_name} (from {own})", upper, indices)
      for upper, indices in chain
    ]
  return levels


def of_files(
  options: Sequence[str], tasks: Mapping[str, LabelTask]
) -> list[Level]:
  """Parses the options `TASK=FILE.json` of the command line.

  Args:
    options: any number. A file has {"new class": ["class", …], …}.
    tasks: label tasks of the network by id.

  Raises:
    InputError: wrong format, an unknown task, a file that cannot be read, or
      groups that do not have every class exactly once.
  """
  levels = []
  for option in options:
    name, equals, file = option.partition("=")
    if not (equals and file):
      raise InputError("--merge", "TASK=FILE.json", repr(option))
    if name not in tasks:
      raise InputError("--merge", f"a task of {', '.join(tasks)}", repr(name))
    path, task = pathlib.Path(file).expanduser(), tasks[name]
    table = class_merge.merge_classes(
      task, _read_groups(path), where=f"{path}, {name}"
    )
    levels.append(
      Level(
        name,
        path.stem,
        f"{path.stem} (from {task.short_name})",
        table,
        class_merge.members(task, table),
      )
    )
  return levels


def _read_groups(path: pathlib.Path) -> dict[str, list[str]]:
  groups = run_directory.read_json(path)
  if not groups:
    raise InputError(path, 'classes, such as {"new": ["old"]}', "none")
  for new, names in groups.items():
    is_list = isinstance(names, list)
    if not is_list or not all(isinstance(name, str) for name in names):
      raise InputError(
        f"{path}, {new}", "a list of classes", json.dumps(names)[:80]
      )
    if not (new.strip() and new.isprintable() and len(new) <= 80):
      raise InputError(
        path, "printable names up to 80 characters", repr(new)[:80]
      )
  return groups


def score(
  levels: Sequence[Level],
  confusion: Mapping[str, np.ndarray],
  scored: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
  """Scores a network on coarser classes.

  Args:
    levels: of its tasks.
    confusion: int64 [k k] by task, with all classes.
    scored: bool [k] by task.

  Returns:
    For each level `task`, `name`, `title` and the scores of a task from
    `report.scores_as_json`, ready for JSON.
  """
  rows = []
  for level in levels:
    matrix = class_merge.merge_confusion(
      confusion[level.task], level.groups, level.table.num_classes
    )
    scores = report.scores_as_json(
      {level.name: matrix},
      {level.name: level.scored(scored[level.task])},
      {level.name: level.table},
    )
    names = {"task": level.task, "name": level.name, "title": level.title}
    rows.append({**names, **scores[level.name]})
  return rows


def format_table(rows: Sequence[Mapping[str, Any]], heading: str) -> str:
  """Renders the rows of `score` as text, averages only."""
  headers = ["coarser classes", "classes", "mIoU %", "OA %", "majority mIoU %"]
  cells = [
    (
      row["title"],
      str(len(row["classes"])),
      f"{row['miou']:.2f}",
      f"{row['overall_accuracy']:.2f}",
      f"{row['majority']['miou']:.2f}",
    )
    for row in rows
  ]
  return f"{heading}\n{text_table.format_table(headers, cells)}"
