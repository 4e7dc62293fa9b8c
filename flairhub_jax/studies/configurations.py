"""Configurations: groups of runs that differ only in their seed."""

import collections
import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from flairhub_jax import configuration
from flairhub_jax.errors import InputError
from flairhub_jax.schema import LabelTask, Sensor
from flairhub_jax.studies import runs

# Fields in which a single-task run may differ from the multi-task run that it
# is compared with.
_TASK_FIELDS = (
  "data.tasks",
  "train.best_metric",
  "tasks.",
  "schema.tasks.",
  "task_weighting",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
  """The finished runs of one configuration.

  Attributes:
    name: short, unique in the report.
    fields: values of the fields that define it, by dotted name.
    runs: the finished runs, by seed.
  """

  name: str
  fields: Mapping[str, Any]
  runs: Mapping[int, runs.Run]

  @property
  def config(self) -> Any:
    """The whole configuration of one of its runs."""
    return next(iter(self.runs.values())).config

  @property
  def tasks(self) -> tuple[str, ...]:
    """Ids of its label tasks."""
    return tuple(self.config.data.tasks)


def sensors_of(rows: Sequence[Configuration]) -> dict[str, Sensor]:
  """Returns the sensors of all schemas by id, in schema order."""
  return {
    name: sensor
    for row in rows
    for name, sensor in row.config.schema.sensors.items()
  }


def tasks_of(rows: Sequence[Configuration]) -> dict[str, LabelTask]:
  """Returns the tasks of all configurations by id, in schema order.

  Raises:
    InputError: two configurations disagree on the classes of a task.
  """
  by_task: dict[str, tuple[LabelTask, Configuration]] = {}
  for row in rows:
    for name, task in configuration.label_tasks(row.config).items():
      first, other = by_task.setdefault(name, (task, row))
      if first.class_names != task.class_names:
        folder = next(iter(row.runs.values())).folder
        raise InputError(
          f"{folder}, task {name}",
          f"the classes of {other.name}",
          f"other classes ({', '.join(task.class_names)})"[:200],
        )
  order = {name: None for row in rows for name in row.config.schema.tasks}
  return {name: by_task[name][0] for name in order if name in by_task}


def group(
  all_runs: Sequence[runs.Run], baseline: str | None = None
) -> list[Configuration]:
  """Groups the finished runs by configuration.

  Args:
    all_runs: in any state.
    baseline: name of the configuration to list first; None: the order of the
      runs.

  Raises:
    InputError: no run is finished, or no configuration has the name
      `baseline`.
  """
  by_fields = collections.defaultdict(list)
  for run in all_runs:
    if run.is_finished:
      by_fields[json.dumps(run.fields, sort_keys=True)].append(run)
  if not by_fields:
    states = collections.Counter(run.state for run in all_runs).most_common(3)
    raise InputError(
      "--runs",
      "at least one finished run with scores",
      f"{len(all_runs)} runs: "
      + ", ".join(f"{count} {state}" for state, count in states),
    )
  groups = list(by_fields.values())
  fields = [group[0].fields for group in groups]
  names = _names(groups, fields)
  if baseline is not None and baseline not in names:
    raise InputError("--baseline", f"one of {', '.join(names)}", baseline)
  rows = [
    Configuration(
      name=name,
      fields=own,
      runs={run.seed: run for run in sorted(group, key=lambda run: run.seed)},
    )
    for name, own, group in zip(names, fields, groups, strict=True)
  ]
  # The sort is stable: the others stay in order.
  return sorted(rows, key=lambda row: row.name != (baseline or names[0]))


def _names(
  groups: Sequence[Sequence[runs.Run]], fields: Sequence[Mapping[str, Any]]
) -> list[str]:
  """Names configurations by folder where each has one, else by their fields."""
  parents = [{run.folder.parent for run in group} for group in groups]
  names = [next(iter(folders)).name for folders in parents]
  if len(set(names)) == len(names) and all(len(f) == 1 for f in parents):
    if len(names) > 1 or len(groups[0]) > 1:
      return names
  if len(groups) == 1:
    return [groups[0][0].folder.name]
  chosen = _distinguishing(fields)
  sensors = {
    name for group in groups for name in group[0].config.schema.sensors
  }
  return [", ".join(_equations(chosen, row, sensors)) for row in fields]


def _as_frame(fields: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
  """Returns fields as JSON, one row per configuration; NaN if absent."""
  return pd.DataFrame(
    [{name: json.dumps(value) for name, value in row.items()} for row in fields]
  )


def differing_fields(fields: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns the names of fields with more than one value, in order.

  Absence is no difference: it follows from the modalities and tasks.
  """
  frame = _as_frame(fields)
  return list(frame.columns[frame.nunique() > 1])


def _distinguishing(fields: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns the first fields that together distinguish all configurations.

  Fields that some configurations lack come last: they follow from other
  fields, unless the runs were made by different versions of the software.
  """
  frame = _as_frame(fields)
  chosen, num_groups = [], 1
  for name in sorted(frame, key=lambda name: frame[name].isna().any()):
    count = len(frame[[*chosen, name]].drop_duplicates())
    if count > num_groups:
      chosen, num_groups = [*chosen, name], count
  return chosen


def _equations(
  names: Sequence[str], fields: Mapping[str, Any], sensors: Collection[str]
) -> list[str]:
  """Writes `name=value` strings, one for modalities with the same value."""
  values = {}
  for name in names:
    parent, _, last = name.rpartition(".")
    key = parent if last in sensors else name
    value = format_value(fields.get(name, "absent"))
    values.setdefault(key, {})[name] = value
  result = []
  for parent, pairs in values.items():
    if len(set(pairs.values())) == 1:
      pairs = {parent: next(iter(pairs.values()))}
    result += [f"{name}={value}" for name, value in pairs.items()]
  return result


def format_value(value: Any) -> str:
  """Writes the value of a field in one line; lists joined by +."""
  if isinstance(value, list) and len(value) > 3 and len(set(value)) == 1:
    return f"{len(value)} times {value[0]}"
  if isinstance(value, list):
    return "+".join(map(str, value)) or "none"
  return "none" if value in (None, "") else str(value)


def single_task_of(
  multiple: Configuration, task: str, among: Sequence[Configuration]
) -> Configuration | None:
  """Finds the configuration that trains on `task` alone, all else equal."""
  for row in among:
    if row.tasks == (task,) and _task_independent_fields(
      row
    ) == _task_independent_fields(multiple):
      return row
  return None


def _task_independent_fields(row: Configuration) -> dict[str, Any]:
  return {
    name: value
    for name, value in row.fields.items()
    if not name.startswith(_TASK_FIELDS)
  }
