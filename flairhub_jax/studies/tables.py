"""Tables of a report: scores, differences, classes, costs, subsets, runs."""

import csv
import dataclasses
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flairhub_jax import labels, metrics
from flairhub_jax.modalities import MODALITIES
from flairhub_jax.studies import configurations, published, runs
from flairhub_jax.studies.configurations import Configuration
from flairhub_jax.studies.costs import Cost
from flairhub_jax.studies.statistics import (
  Estimate,
  estimate,
  paired_difference,
)

DASH = "–"

# The scores that the page compares; the CSV files hold all of `AVERAGES`.
COMPARED = {"miou": "mIoU", "overall_accuracy": "OA"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """Cells as a reader sees them.

  Attributes:
    header: of each column; the first column holds names.
    rows: as many cells each.
  """

  header: Sequence[str]
  rows: Sequence[Sequence[str]]


Records = Sequence[Mapping[str, Any]]


def as_csv(records: Records) -> str:
  """Writes records as CSV, a column per field of any of them; None is empty."""
  names = list(dict.fromkeys(name for row in records for name in row))
  text = io.StringIO()
  writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
  writer.writeheader()
  writer.writerows(records)
  return text.getvalue()


# ---- cells ------------------------------------------------------------------


def percent(value: float | None) -> str:
  """One decimal; a dash where there is no value."""
  return DASH if value is None else f"{value:.1f}"


def with_interval(found: Estimate | None) -> str:
  """`45.4 ± 1.2`; without an interval the mean alone."""
  if found is None:
    return DASH
  if found.half_width is None:
    return percent(found.mean)
  return f"{found.mean:.1f} ± {found.half_width:.1f}"


def _range(found: Estimate) -> str:
  if found.half_width is None:
    return DASH
  return f"[{found.low:.1f}, {found.high:.1f}]"


def _signed(found: Estimate | None) -> str:
  if found is None:
    return DASH
  if found.half_width is None:
    return f"{found.mean:+z.1f}"  # z: no -0.0
  return f"{found.mean:+z.1f} [{found.low:+z.1f}, {found.high:+z.1f}]"


def _verdict(found: Estimate | None) -> str:
  """What the interval of a difference says."""
  if found is None or found.excludes_zero is None:
    return DASH
  if not found.excludes_zero:
    return "undecided"
  return "higher" if found.mean > 0 else "lower"


def numbers(found: Estimate | None) -> dict[str, Any]:
  """Returns an estimate as fields of a record."""
  if found is None:
    return {"runs": 0}
  return {
    "runs": found.count,
    "mean": found.mean,
    "std": found.std,
    "low": found.low,
    "high": found.high,
  }


# ---- tables -----------------------------------------------------------------


def score_table(rows: Sequence[Configuration], task: str) -> Table:
  """Mean, standard deviation and interval per configuration of a task."""
  found = [
    published.find(row.config.data.modalities, row.tasks) for row in rows
  ]
  header = ["configuration", "runs"]
  for name in COMPARED.values():
    header += [f"{name} %", f"{name} std", f"{name} 95 %"]
  # Small sets lack some classes, which count as 0 in the mean of all.
  has_absent = any(
    row.score(task, "miou") != row.score(task, "miou_present") for row in rows
  )
  if has_absent:
    header.append("mIoU % of classes that occur")
  if any(found):
    header += ["experiment", "mIoU % published", "OA % published"]
  cells = []
  for row, match in zip(rows, found, strict=True):
    line = [row.name, str(len(row.runs))]
    for name in COMPARED:
      result = estimate(list(row.score(task, name).values()))
      line += [percent(result.mean), percent(result.std), _range(result)]
    if has_absent:
      present = row.score(task, "miou_present").values()
      line.append(with_interval(estimate(list(present))))
    if any(found):
      line += (
        [match[0], percent(match[1].miou), percent(match[1].overall_accuracy)]
        if match
        else [DASH] * 3
      )
    cells.append(line)
  return Table(header=header, rows=cells)


def score_records(rows: Sequence[Configuration]) -> Records:
  """Every average of every configuration and task, with what was published."""
  records = []
  for row in rows:
    match = published.find(row.config.data.modalities, row.tasks)
    for task in row.tasks:
      for name in metrics.AVERAGES:
        result = estimate(list(row.score(task, name).values()))
        record = {"configuration": row.name, "task": task, "score": name}
        record |= numbers(result)
        record["experiment"] = match[0] if match else None
        record["published"] = getattr(match[1], name, None) if match else None
        records.append(record)
  return records


def difference_table(rows: Sequence[Configuration], task: str) -> Table:
  """Each configuration minus the first one, over their common seeds."""
  first, *others = rows
  header = ["configuration", "common seeds"]
  for name in COMPARED.values():
    header += [f"{name}, points", f"{name} at 95 %"]
  cells = []
  for row in others:
    results = [
      paired_difference(row.score(task, name), first.score(task, name))
      for name in COMPARED
    ]
    line = [row.name, str(results[0].count if results[0] else 0)]
    for result in results:
      line += [_signed(result), _verdict(result)]
    cells.append(line)
  return Table(header=header, rows=cells)


def difference_records(rows: Sequence[Configuration]) -> Records:
  """Paired differences against the first configuration that has the task."""
  records = []
  for task in tasks_of(rows):
    first, *others = [row for row in rows if task in row.tasks]
    for row in others:
      for name in COMPARED:
        result = paired_difference(
          row.score(task, name), first.score(task, name)
        )
        record = {"configuration": row.name, "minus": first.name}
        record |= {"task": task, "score": name} | numbers(result)
        records.append(record)
  return records


def tasks_of(rows: Sequence[Configuration]) -> list[str]:
  """Tasks that any configuration has, in the order of the label tables."""
  return [
    task for task in labels.TASKS if any(task in row.tasks for row in rows)
  ]


def class_means(
  rows: Sequence[Configuration], task: str
) -> dict[str, dict[str, Estimate]]:
  """IoU by configuration and class that occurs."""
  return {
    row.name: {
      name: estimate(list(values.values()))
      for name, values in row.classes(task).items()
    }
    for row in rows
  }


def class_table(rows: Sequence[Configuration], task: str) -> Table:
  """IoU of each class that occurs, a column per configuration."""
  means = class_means(rows, task)
  return Table(
    header=["class", *means],
    rows=[
      [c.name, *(with_interval(row.get(c.name)) for row in means.values())]
      for c in labels.TASKS[task].classes
      if any(c.name in row for row in means.values())
    ],
  )


def class_records(rows: Sequence[Configuration]) -> Records:
  """IoU of every configuration, task and class that occurs."""
  return [
    {"configuration": name, "task": task, "class": class_name} | numbers(result)
    for task in tasks_of(rows)
    for name, row in class_means(
      [row for row in rows if task in row.tasks], task
    ).items()
    for class_name, result in row.items()
  ]


def _task_pairs(rows: Sequence[Configuration]) -> Iterator[tuple]:
  """Runs of several tasks with those of one of them, all else equal."""
  for row in rows:
    for task in row.tasks if len(row.tasks) > 1 else ():
      single = configurations.single_task_of(row, task, rows)
      for name in COMPARED if single else ():
        ours, theirs = row.score(task, name), single.score(task, name)
        yield row, single, task, name, paired_difference(ours, theirs)


def task_records(rows: Sequence[Configuration]) -> Records:
  """Paired differences of training on several tasks and on one of them."""
  return [
    {"configuration": row.name, "minus": single.name}
    | {"task": task, "score": name}
    | numbers(result)
    for row, single, task, name, result in _task_pairs(rows)
  ]


def task_table(rows: Sequence[Configuration]) -> Table:
  """Gain or loss per task of training on several."""
  return Table(
    header=[
      "trained on several tasks",
      "task",
      "score",
      "several, %",
      "alone, %",
      "gain, points",
      "at 95 %",
    ],
    rows=[
      [
        row.name,
        labels.TASKS[task].short_name,
        COMPARED[name],
        with_interval(estimate(list(row.score(task, name).values()))),
        with_interval(estimate(list(single.score(task, name).values()))),
        _signed(result),
        _verdict(result),
      ]
      for row, single, task, name, result in _task_pairs(rows)
    ],
  )


def cost_records(costs: Mapping[str, Cost]) -> Records:
  """What each configuration costs."""
  return [
    {
      "configuration": name,
      "parameters": cost.num_parameters,
      "parameters_without_fusion": cost.num_parameters_published,
      "forward_gflop_per_patch": cost.forward_flops / 1e9,
      "training_pflop": None
      if cost.training_flops is None
      else cost.training_flops / 1e15,
    }
    | {f"hours_{key}": value for key, value in numbers(cost.hours).items()}
    for name, cost in costs.items()
  ]


def cost_table(
  rows: Sequence[Configuration], costs: Mapping[str, Cost]
) -> Table:
  """Parameters, operations and hours of each configuration."""
  cells = []
  for row in rows:
    cost, hours = costs[row.name], costs[row.name].hours
    match = published.find(row.config.data.modalities, row.tasks)
    cells.append(
      [
        row.name,
        f"{cost.num_parameters / 1e6:.2f}",
        f"{cost.num_parameters_published / 1e6:.2f}",
        f"{match[1].parameters:.1f}" if match else DASH,
        f"{cost.forward_flops / 1e9:.1f}",
        DASH
        if cost.training_flops is None
        else f"{cost.training_flops / 1e15:.3g}",
        DASH if hours is None else f"{hours.mean:.2g}",
      ]
    )
  header = [
    "configuration",
    "parameters, M",
    "without fusion, M",
    "published, M",
    "forward, GFLOP a patch",
    "training, PFLOP",
    "training, h",
  ]
  known = [set(column) != {DASH} for column in zip(*cells, strict=True)]
  return Table(
    header=list(itertools.compress(header, known)),
    rows=[list(itertools.compress(row, known)) for row in cells],
  )


def run_records(found: Sequence[runs.Run], names: Mapping[Any, str]) -> Records:
  """Every run and its state; only finished ones are averaged.

  Args:
    found: all runs.
    names: configuration by folder of the finished runs.
  """
  return [
    {
      "run": f"{run.folder.parent.name}/{run.folder.name}",
      "configuration": names.get(run.folder),
      "seed": run.seed,
      "state": run.state,
    }
    for run in found
  ]


def run_table(found: Sequence[runs.Run], names: Mapping[Any, str]) -> Table:
  """The same for readers."""
  return Table(
    header=["run", "configuration", "seed", "state"],
    rows=[
      [DASH if cell is None else str(cell) for cell in record.values()]
      for record in run_records(found, names)
    ],
  )


def field_table(rows: Sequence[Configuration]) -> Table:
  """The fields in which the configurations differ."""
  columns: dict[Any, list[str]] = {}  # fields by their cells
  for name in configurations.differing_fields([row.fields for row in rows]):
    parent, _, last = name.rpartition(".")
    cells = tuple(
      configurations.spell_value(row.fields[name])
      if name in row.fields
      else DASH
      for row in rows
    )
    if last in MODALITIES and (parent, cells) in columns:
      columns[parent, cells].append(last)
    else:
      key = parent if last in MODALITIES else name
      columns[key, cells] = [name]
  names = [row.name for row in rows]
  return Table(
    header=["configuration", *map(" + ".join, columns.values())],
    rows=list(zip(names, *(cells for _, cells in columns), strict=True)),
  )
