"""The numbers of a report, and its tables.

`compute` returns frames of numbers, which become CSV files. Tables are frames
of strings, with the names of the rows as their index.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from flairhub_jax.schema import LabelTask
from flairhub_jax.studies import configurations, costs, published, runs, scores
from flairhub_jax.studies.configurations import Configuration
from flairhub_jax.studies.scores import COMPARED

DASH = "–"

# Formats of a row of statistics, with an interval and without one.
WITH_INTERVAL = ("{mean:.1f} ± {half_width:.1f}", "{mean:.1f}")
_MEAN = ("{mean:.1f}", "{mean:.1f}")
_STD = ("{std:.1f}", DASH)
_RANGE = ("[{low:.1f}, {high:.1f}]", DASH)
# z: no -0.0
_SIGNED = ("{mean:+z.1f} [{low:+z.1f}, {high:+z.1f}]", "{mean:+z.1f}")


def compute(
  all_runs: Sequence[runs.Run],
  rows: Sequence[Configuration],
  frame: pd.DataFrame,
  cache: pathlib.Path,
) -> dict[str, pd.DataFrame]:
  """Computes the numbers of a report, by name of the CSV file.

  Args:
    all_runs: in any state.
    rows: configurations of the finished runs, the baseline first.
    frame: scores of `rows`, from `scores.read`.
    cache: file of the counts of parameters and FLOPs.
  """
  own = scores.summarise(
    scores.averages(frame), ["configuration", "task", "score"]
  ).sort_values("configuration", kind="stable")
  matches = {
    row.name: published.find(row.config.data.modalities, row.tasks)
    or (None, None)
    for row in rows
    # No scores of merged classes were published.
    if not any(row.config.tasks[task].merge for task in row.tasks)
  }
  nothing = None, None
  own["experiment"] = [
    matches.get(name, nothing)[0] for name in own["configuration"]
  ]
  own["published"] = [
    getattr(matches.get(name, nothing)[1], score, None)
    for name, score in zip(own["configuration"], own["score"], strict=True)
  ]
  cost = costs.count(rows, cache)
  cost["published_parameters"] = pd.Series(
    {
      name: getattr(score, "parameters", None)
      for name, (_, score) in matches.items()
    },
    dtype=float,
  )
  subsets = scores.summarise(
    frame[frame["subset"] != ""], ["configuration", "task", "score", "subset"]
  ).sort_values(["task", "score", "subset"], kind="stable")
  names = {run.folder: row.name for row in rows for run in row.runs.values()}
  states = [
    (run.title, names.get(run.folder), run.seed, run.state) for run in all_runs
  ]
  return {
    "scores": own,
    "differences": scores.differences(frame, _to_baseline(rows)),
    "classes": scores.summarise(
      frame[frame["class"] != ""], ["configuration", "task", "class"]
    ),
    "tasks": scores.differences(frame, _to_single_task(rows)),
    "subsets": subsets.rename(columns={"subset": "modalities"}),
    "costs": cost.reset_index(),
    "runs": pd.DataFrame(
      states, columns=["run", "configuration", "seed", "state"]
    ),
  }


def _to_baseline(rows: Sequence[Configuration]) -> list[tuple[str, str, str]]:
  """Pairs each configuration with the first one that has the task."""
  pairs = []
  for task in configurations.tasks_of(rows):
    first, *others = [row.name for row in rows if task in row.tasks]
    pairs += [(name, first, task) for name in others]
  return pairs


def _to_single_task(
  rows: Sequence[Configuration],
) -> list[tuple[str, str, str]]:
  """Pairs multi-task configurations with their single-task counterparts."""
  return [
    (row.name, single.name, task)
    for row in rows
    if len(row.tasks) > 1
    for task in row.tasks
    if (single := configurations.single_task_of(row, task, rows))
  ]


def cells(summary: pd.DataFrame, formats: tuple[str, str]) -> pd.Series:
  """Formats rows of statistics: with an interval, without one, without runs."""
  texts = [
    (formats[row["runs"] == 1] if row["runs"] else DASH).format(**row)
    for row in summary.to_dict("records")
  ]
  return pd.Series(texts, summary.index, dtype=object)


def _number(text: str, values: pd.Series) -> list[str]:
  return [DASH if pd.isna(value) else text.format(value) for value in values]


def by_score(summary: pd.DataFrame, task: str) -> dict[str, pd.DataFrame]:
  """Rows of a task by name of the score, with the configurations as index."""
  of_task = summary[summary["task"] == task].astype({"configuration": str})
  return {
    str(score): part.set_index("configuration")
    for score, part in of_task.groupby("score")
  }


def score_table(summary: pd.DataFrame, task: str) -> pd.DataFrame:
  """Mean, standard deviation and interval per configuration of a task."""
  own = by_score(summary, task)
  miou = own["miou"]
  table = pd.DataFrame({"runs": miou["runs"].astype(str)})
  for score, name in COMPARED.items():
    table[f"{name} %"] = cells(own[score], _MEAN)
    table[f"{name} std"] = cells(own[score], _STD)
    table[f"{name} 95 %"] = cells(own[score], _RANGE)
  # Small data sets lack some classes, whose IoU counts as 0 in the mIoU.
  present = own["miou_present"]
  if (present["mean"] != miou["mean"]).any():
    table["mIoU % of classes that occur"] = cells(present, WITH_INTERVAL)
  if miou["experiment"].notna().any():
    table["experiment"] = miou["experiment"].fillna(DASH)
    for score, name in COMPARED.items():
      values = _number("{:.1f}", own[score]["published"])
      table[f"{name} % published"] = values
  return table


def difference_table(summary: pd.DataFrame, task: str) -> pd.DataFrame:
  """Each configuration minus the baseline, over their common seeds."""
  own = by_score(summary, task)
  table = pd.DataFrame({"common seeds": own["miou"]["runs"].astype(str)})
  for score, name in COMPARED.items():
    table[f"{name}, points"] = cells(own[score], _SIGNED)
    table[f"{name} at 95 %"] = verdicts(own[score])
  return table


def verdicts(summary: pd.DataFrame) -> np.ndarray:
  """Says whether the intervals of differences exclude 0."""
  low, high = summary["low"], summary["high"]
  return np.select(
    [low > 0, high < 0, low.notna()], ["higher", "lower", "undecided"], DASH
  )


def class_table(summary: pd.DataFrame, task: LabelTask) -> pd.DataFrame:
  """IoU of each class that occurs, one column per configuration."""
  table = _wide(summary, "class")
  names = [name for name in task.class_names if name in table.index]
  return table.loc[names]


def subset_table(summary: pd.DataFrame) -> pd.DataFrame:
  """MIoU of each subset of modalities, one column per configuration."""
  table = _wide(summary, "modalities")
  table.index = table.index.str.replace("+", " + ")
  return table.rename(columns="{}, mIoU %".format)


def _wide(summary: pd.DataFrame, rows: str) -> pd.DataFrame:
  """Means with intervals, one column per configuration."""
  text = summary.assign(text=cells(summary, WITH_INTERVAL))
  table = text.pivot(index=rows, columns="configuration", values="text")
  return table.fillna(DASH)


def task_table(
  gains: pd.DataFrame,
  own: pd.DataFrame,
  label_tasks: Mapping[str, LabelTask],
) -> pd.DataFrame:
  """Gain or loss of multi-task training, by task.

  Args:
    gains: multi-task minus single-task scores.
    own: the scores of both.
    label_tasks: by id.
  """
  keys = zip(own["configuration"], own["task"], own["score"], strict=True)
  text = dict(zip(keys, cells(own, WITH_INTERVAL), strict=True))
  names = gains["configuration"], gains["minus"]
  multiple, single = (
    [text[key] for key in zip(name, gains["task"], gains["score"], strict=True)]
    for name in names
  )
  return pd.DataFrame(
    {
      "multi-task configuration": gains["configuration"],
      "task": [label_tasks[task].short_name for task in gains["task"]],
      "score": gains["score"].map(COMPARED),
      "multi-task, %": multiple,
      "single-task, %": single,
      "gain, points": cells(gains, _SIGNED),
      "at 95 %": verdicts(gains),
    }
  ).set_index("multi-task configuration")


def cost_table(costs: pd.DataFrame) -> pd.DataFrame:
  """Parameters, FLOPs and hours of each configuration."""
  columns = {
    "parameters, M": ("{:.2f}", costs["parameters"] / 1e6),
    "without fusion, M": ("{:.2f}", costs["parameters_without_fusion"] / 1e6),
    "published, M": ("{:.1f}", costs["published_parameters"]),
    "forward, GFLOP per patch": ("{:.1f}", costs["forward_gflop_per_patch"]),
    "training, PFLOP": ("{:.3g}", costs["training_pflop"]),
    "training, h": ("{:.2g}", costs["hours_mean"]),
  }
  table = pd.DataFrame(
    {name: _number(*column) for name, column in columns.items()},
    index=costs.index,
  )
  return table.loc[:, (table != DASH).any()]


def run_table(summary: pd.DataFrame) -> pd.DataFrame:
  """Every run and its state; only finished ones are averaged."""
  return summary.fillna({"configuration": DASH}).astype(str).set_index("run")


def field_table(rows: Sequence[Configuration]) -> pd.DataFrame:
  """The fields in which the configurations differ."""
  headers: dict[tuple, list[str]] = {}  # one for modalities with equal values
  sensors = configurations.sensors_of(rows)
  for name in configurations.differing_fields([row.fields for row in rows]):
    cells = tuple(
      configurations.format_value(row.fields.get(name, DASH)) for row in rows
    )
    parent, _, last = name.rpartition(".")
    key = parent if last in sensors else name
    header = headers.setdefault((key, cells), [])
    header.append(last if header else name)
  return pd.DataFrame(
    {" + ".join(header): cells for (_, cells), header in headers.items()},
    index=pd.Index([row.name for row in rows], name="configuration"),
  )
