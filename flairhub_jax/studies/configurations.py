"""Runs that differ in nothing but their seed, and their names."""

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

# Fields that a run of one task may have otherwise than the run of several
# tasks it is compared with.
_FIELDS_OF_TASKS = (
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
    name: short, unlike those of the others in the report.
    fields: what makes it this configuration, by dotted name.
    runs: finished ones, by seed.
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
  """Sensors of the schemas by id, in their order."""
  return {
    name: sensor
    for row in rows
    for name, sensor in row.config.schema.sensors.items()
  }


def tasks_of(rows: Sequence[Configuration]) -> dict[str, LabelTask]:
  """Tasks that any configuration has by id, in the order of the schemas.

  Raises:
    InputError: two configurations have other classes of one task.
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
          f"others ({', '.join(task.class_names)})"[:200],
        )
  order = {name: None for row in rows for name in row.config.schema.tasks}
  return {name: by_task[name][0] for name in order if name in by_task}


def group(
  all_runs: Sequence[runs.Run], baseline: str | None = None
) -> list[Configuration]:
  """Groups the finished runs by configuration.

  Args:
    all_runs: in any state.
    baseline: name of the configuration to come first; None: the order of the
      runs.

  Raises:
    InputError: no run is finished, or none is called `baseline`.
  """
  members = {}
  for run in all_runs:
    if run.is_finished:
      members.setdefault(json.dumps(run.fields, sort_keys=True), []).append(run)
  if not members:
    states = collections.Counter(run.state for run in all_runs).most_common(3)
    raise InputError(
      "--runs",
      "at least one finished run with scores",
      f"{len(all_runs)} runs: "
      + ", ".join(f"{count} {state}" for state, count in states),
    )
  groups = list(members.values())
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
  # Sorting keeps the order of the others.
  return sorted(rows, key=lambda row: row.name != (baseline or names[0]))


def _names(
  groups: Sequence[Sequence[runs.Run]], fields: Sequence[Mapping[str, Any]]
) -> list[str]:
  """Names of folders where each configuration has its own, else its fields."""
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
  """Fields as JSON, a row per configuration; NaN where it lacks the field."""
  return pd.DataFrame(
    [{name: json.dumps(value) for name, value in row.items()} for row in fields]
  )


def differing_fields(fields: Sequence[Mapping[str, Any]]) -> list[str]:
  """Names of fields that are not the same in all that have them, in order.

  What a configuration lacks follows from its modalities and tasks.
  """
  frame = _as_frame(fields)
  return list(frame.columns[frame.nunique() > 1])


def _distinguishing(fields: Sequence[Mapping[str, Any]]) -> list[str]:
  """The first differing fields that together distinguish all configurations.

  Fields that only some have come last: they follow from others, unless the
  runs are of different versions of the software.
  """
  frame = _as_frame(fields)
  chosen, parts = [], 1
  for name in sorted(frame, key=lambda name: frame[name].isna().any()):
    tried = len(frame[[*chosen, name]].drop_duplicates())
    if tried > parts:
      chosen, parts = [*chosen, name], tried
  return chosen


def _equations(
  names: Sequence[str], fields: Mapping[str, Any], sensors: Collection[str]
) -> list[str]:
  """`name=value` each; modalities of one value share `name=value`."""
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
  """Writes a value of a field in a line; lists joined by +."""
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
    if row.tasks == (task,) and _apart_from_tasks(row) == _apart_from_tasks(
      multiple
    ):
      return row
  return None


def _apart_from_tasks(row: Configuration) -> dict[str, Any]:
  return {
    name: value
    for name, value in row.fields.items()
    if not name.startswith(_FIELDS_OF_TASKS)
  }
