"""The scores of finished runs as one tidy frame, and statistics over seeds.

A row of the frame is one score of one run. Its columns:

  configuration  name, in the order of the report
  seed           of the run
  task           id of the label task
  class          name; "" where the score is an average over classes
  subset         modalities joined by "+"; "" for all modalities of the run
  score          name in `metrics.AVERAGES`, or "iou" of a class
  value          percent
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from flairhub_jax import metrics
from flairhub_jax.studies import configurations
from flairhub_jax.studies.configurations import Configuration

CONFIDENCE = 0.95
# The scores that the page compares; scores.csv has all of `AVERAGES`.
COMPARED = {"miou": "mIoU", "overall_accuracy": "OA"}

_COLUMNS = [
  *("configuration", "seed", "task", "class", "subset", "score", "value")
]
# Columns that `summarise` computes, in the order of the CSV files.
STATISTICS = ["runs", "mean", "std", "low", "high"]


def read(rows: Sequence[Configuration]) -> pd.DataFrame:
  """Returns all scores of the runs, in the columns of this module.

  Classes that do not occur in a split have no row.
  """
  records = []
  sensors = list(configurations.sensors_of(rows))
  for task in configurations.tasks_of(rows):
    for row in (row for row in rows if task in row.tasks):
      for seed, run in row.runs.items():
        own, key = run.scores["tasks"][task], (row.name, seed, task)
        records += [(*key, "", "", s, own[s]) for s in metrics.AVERAGES]
        records += [
          (*key, name, "", "iou", values["iou"])
          for name, values in own["classes"].items()
          if values["pixels"]
        ]
        for entry in run.subsets["subsets"] if run.subsets else ():
          subset = "+".join(m for m in sensors if m in entry["modalities"])
          own = entry["tasks"][task]
          records += [(*key, "", subset, s, own[s]) for s in COMPARED]
  frame = pd.DataFrame(records, columns=_COLUMNS)
  subsets = sorted(
    frame["subset"].unique(), key=lambda name: _subset_order(name, sensors)
  )
  frame["subset"] = pd.Categorical(frame["subset"], subsets)
  names = [row.name for row in rows]
  frame["configuration"] = pd.Categorical(frame["configuration"], names)
  return frame


def _subset_order(subset: str, sensors: Sequence[str]) -> tuple[int, list[int]]:
  """Larger subsets first, those of equal size in the order of the sensors."""
  names = [name for name in sensors if name in subset.split("+")]
  return -len(names), [sensors.index(name) for name in names]


def summarise(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
  """Estimates the mean over seeds of each group of rows.

  The interval is Student's t, as the standard deviation is estimated from the
  same few seeds: with three seeds its half width is 2.5 standard deviations.

  Args:
    frame: has a column `value`; NaN is not counted.
    by: columns to group by.

  Returns:
    One row per group, in the order of the frame: `by`, `STATISTICS` and
    `half_width` of the 95 % interval from `low` to `high`. `std` divides by
    count - 1; it and the interval are NaN for a single value.
  """
  groups = frame.groupby(list(by), sort=False, observed=True)["value"]
  result = groups.agg(runs="count", mean="mean", std="std").reset_index()
  quantile = stats.t.ppf((1 + CONFIDENCE) / 2, result["runs"] - 1)
  half_width = quantile * result["std"] / np.sqrt(result["runs"])
  result["low"] = result["mean"] - half_width
  result["high"] = result["mean"] + half_width
  result["half_width"] = half_width
  return result


def averages(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns the rows that belong neither to a class nor to a subset."""
  return frame[(frame["class"] == "") & (frame["subset"] == "")]


def differences(
  frame: pd.DataFrame, pairs: Iterable[tuple[str, str, str]]
) -> pd.DataFrame:
  """Estimates paired differences between configurations.

  Pairing runs by seed cancels the effect of the seed that both have in common,
  which narrows the interval.

  Args:
    frame: from `read`.
    pairs: (configuration, configuration to subtract, task).

  Returns:
    Statistics from `summarise` of the `COMPARED` scores over common seeds, by
    `configuration`, `minus`, `task` and `score`; 0 runs without a common seed.
  """
  columns = ["configuration", "minus", "task"]
  scores = averages(frame)
  scores = scores[scores["score"].isin(COMPARED)]
  scores = scores[["configuration", "seed", "task", "score", "value"]]
  subtracted = scores.rename(
    columns={"configuration": "minus", "value": "subtracted"}
  )
  both = pd.DataFrame(pairs, columns=columns, dtype=object)
  both = both.merge(scores, on=["configuration", "task"])
  both = both.merge(
    subtracted, on=["minus", "task", "seed", "score"], how="left"
  )
  both["value"] -= both["subtracted"]
  return summarise(both, [*columns, "score"])
