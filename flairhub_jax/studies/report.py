"""The report of a study: what it computes, draws and says."""

import json
import pathlib
from collections.abc import Mapping, Sequence

from flairhub_jax import atomic, figures, labels
from flairhub_jax.errors import InputError
from flairhub_jax.studies import costs as costing
from flairhub_jax.studies import pages, published, runs, subsets, tables
from flairhub_jax.studies.configurations import Configuration
from flairhub_jax.studies.costs import Cost
from flairhub_jax.studies.pages import Figure, Part, Section
from flairhub_jax.studies.statistics import estimate

PAGE, TEXT, RECORDS = "report.html", "report.md", "runs.jsonl"

# What a page shows of configurations side by side, or of runs in a sentence.
_MAX_SHOWN = 6


def write(
  out: pathlib.Path,
  found: Sequence[runs.Run],
  rows: Sequence[Configuration],
  split: str,
) -> list[pathlib.Path]:
  """Writes tables, pictures, the Markdown text and the page.

  Args:
    out: folder, made where it does not exist.
    found: all runs.
    rows: the finished ones by configuration; the first is what the others
      are compared with.
    split: whose scores these are.

  Returns:
    What was written, the page first.

  Raises:
    InputError: `out` cannot be made.
  """
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError("--out", "a folder to write to", error) from error
  costs = {row.name: costing.count(row, out / "networks.json") for row in rows}
  tasks = tables.tasks_of(rows)
  sections = [Section("Overview", _overview(found, rows, split))]
  for task in tasks:
    sections += _task_sections(out, rows, task)
  sections += _multiple_tasks(rows)
  sections += _missing_modalities(out, rows, tasks)
  sections += _learning(out, rows, tasks)
  sections.append(_cost_section(out, rows, costs, tasks))
  sections += _origin_sections(found, rows)
  lists = _write_records(out, found, rows, costs)
  title = f"{len(rows)} configurations, {len(found)} runs"
  if len(rows) == 1:
    title = f"{rows[0].name}, {len(found)} run{'s' if len(found) > 1 else ''}"
  atomic.write_text(out / TEXT, pages.as_markdown(title, sections))
  atomic.write_text(out / PAGE, pages.as_html(title, sections))
  pictures = [
    part.path
    for section in sections
    for part in section.parts
    if isinstance(part, Figure)
  ]
  return [out / PAGE, out / TEXT, *lists, *pictures]


def _write_records(
  out: pathlib.Path,
  found: Sequence[runs.Run],
  rows: Sequence[Configuration],
  costs: Mapping[str, Cost],
) -> list[pathlib.Path]:
  """Writes what is in the tables as CSV, and each run as a line of JSON."""
  records = {
    "scores": tables.score_records(rows),
    "differences": tables.difference_records(rows),
    "classes": tables.class_records(rows),
    "tasks": tables.task_records(rows),
    "subsets": subsets.records(rows),
    "costs": tables.cost_records(costs),
    "runs": tables.run_records(found, _names_by_folder(rows)),
  }
  written = [out / RECORDS]
  lines = (json.dumps(runs.as_record(run)) + "\n" for run in found)
  atomic.write_text(out / RECORDS, "".join(lines))
  for name, rows_of_table in records.items():
    if rows_of_table:
      written.append(out / f"{name}.csv")
      atomic.write_text(written[-1], tables.as_csv(rows_of_table))
  return written


def _overview(
  found: Sequence[runs.Run], rows: Sequence[Configuration], split: str
) -> list[str]:
  finished = sum(len(row.runs) for row in rows)
  data = next(iter(rows[0].runs.values())).scores["data"]
  text = [
    f"Scores on the {split} split of the data set {data[:12]}, in percent. "
    f"Runs finished and averaged: {finished} of {len(found)}, in "
    f"{len(rows)} configuration{'s' if len(rows) > 1 else ''}."
  ]
  left_out = [run for run in found if not run.is_finished]
  if left_out:
    listed = "; ".join(f"{_title(run)} ({run.state})" for run in left_out)
    if len(left_out) > _MAX_SHOWN:
      listed = f"{len(left_out)} runs; what they lack is below, under Runs"
    text.append(f"Not averaged: {listed}.")
  for task in tables.tasks_of(rows):
    having = [row for row in rows if task in row.tasks]
    means = {
      row.name: estimate(list(row.score(task, "miou").values()))
      for row in having
    }
    best = max(means, key=lambda name: means[name].mean)
    text.append(
      f"Highest mIoU of {labels.TASKS[task].short_name}: "
      f"{tables.with_interval(means[best])} ({best})."
    )
  text.append(
    "± and [ ] give the 95 % interval of the mean over seeds, by Student's t; "
    "std is the standard deviation over seeds (n - 1). Differences are paired: "
    "run by run with the same seed, then averaged; “higher” and “lower” mean "
    "that their interval excludes 0, without correction for the number of "
    "comparisons."
  )
  single = [row.name for row in rows if len(row.runs) == 1]
  if single:
    text.append(f"One seed only, so without an interval: {'; '.join(single)}.")
  return text


def _title(run: runs.Run) -> str:
  return f"{run.folder.parent.name}/{run.folder.name}"


def _task_sections(
  out: pathlib.Path, rows: Sequence[Configuration], task: str
) -> list[Section]:
  names = [row.name for row in rows]
  rows = [row for row in rows if task in row.tasks]
  name = labels.TASKS[task].short_name
  picture = Figure(out / f"scores_{task}.png", f"mIoU of {name}")
  title = f"mIoU of {name} by configuration"
  figures.draw_scores(picture.path, title, _points(rows, task), names)
  parts: list[Part] = [tables.score_table(rows, task), picture]
  if any(_published(row) for row in rows):
    parts.append(
      f"Published scores: {published.SOURCE}. They stand beside runs of the "
      "same inputs and task, whatever network and data these used."
    )
  sections = [Section(name.capitalize(), parts)]
  if len(rows) > 1:
    sections.append(
      Section(
        f"Difference from {rows[0].name}",
        [tables.difference_table(rows, task)],
        level=3,
      )
    )
  means = tables.class_means(rows, task)
  if any(means.values()):
    picture = Figure(out / f"classes_{task}.png", f"IoU by class of {name}")
    figures.draw_class_heat_map(
      picture.path,
      f"IoU by class of {name}, mean over seeds",
      task,
      {key: {c: e.mean for c, e in row.items()} for key, row in means.items()},
    )
    classes: list[Part] = [picture]
    if len(rows) <= _MAX_SHOWN:
      classes.append(tables.class_table(rows, task))
    else:
      classes.append("With intervals: classes.csv.")
    sections.append(Section("IoU by class", classes, level=3))
  return sections


def _published(row: Configuration) -> published.PublishedScore | None:
  match = published.find(row.config.data.modalities, row.tasks)
  return match[1] if match else None


def _points(
  rows: Sequence[Configuration],
  task: str,
  x: Mapping[str, float] | None = None,
  *,
  published_x: bool = False,
) -> list[figures.Point]:
  """What the pictures need; those without an `x` are left out."""
  points = []
  for row in rows:
    if x is not None and x.get(row.name) is None:
      continue
    values = list(row.score(task, "miou").values())
    found, other = estimate(values), _published(row)
    points.append(
      figures.Point(
        name=row.name,
        score=found.mean,
        half_width=found.half_width,
        x=x[row.name] if x else 0.0,
        values=values if len(values) > 1 else (),
        published=other.miou if other else None,
        published_x=other.parameters if other and published_x else None,
      )
    )
  return points


def _multiple_tasks(rows: Sequence[Configuration]) -> list[Section]:
  table = tables.task_table(rows)
  if not table.rows:
    return []
  text = (
    "Gain or loss of training on several tasks at once, against the runs that "
    "train on one of them with everything else equal."
  )
  return [Section("Several tasks against one", [text, table])]


def _missing_modalities(
  out: pathlib.Path, rows: Sequence[Configuration], tasks: Sequence[str]
) -> list[Section]:
  sections = []
  for task in tasks:
    having = [row for row in rows if task in row.tasks]
    found = subsets.read(having, task, "miou")
    if not found:
      continue
    name = labels.TASKS[task].short_name
    picture = Figure(
      out / f"subsets_{task}.png", f"mIoU of {name} by subset of modalities"
    )
    figures.draw_subsets(
      picture.path,
      f"mIoU (%) of {name} with the dotted modalities only",
      subsets.modalities_of(found),
      subsets.picture_rows(found),
      [row.name for row in rows],
    )
    names = {name for row in found.values() for name in row}
    is_small = len(names) <= _MAX_SHOWN
    parts: list[Part] = [
      picture,
      subsets.table(found) if is_small else "With intervals: subsets.csv.",
    ]
    sections.append(Section(name.capitalize(), parts, level=3))
  if sections:
    text = (
      "Each trained network, evaluated with every subset of its modalities; "
      "the others are masked. The whole set comes first."
    )
    sections.insert(0, Section("Missing modalities", [text]))
  return sections


def _learning(
  out: pathlib.Path, rows: Sequence[Configuration], tasks: Sequence[str]
) -> list[Section]:
  wanted = {"training loss": ("train", "loss")}
  for task in tasks:
    name = labels.TASKS[task].short_name
    wanted[f"validation mIoU of {name} (%)"] = ("valid", f"{task}/miou")
  panels = {}
  for title, (kind, field) in wanted.items():
    curves = {
      row.name: [
        [
          (record["step"], record[field])
          for record in run.records
          if record["kind"] == kind and field in record
        ]
        for run in row.runs.values()
      ]
      for row in rows
    }
    # One validation is a point of the tables, no curve.
    if any(len(run) > 1 for line in curves.values() for run in line):
      panels[title] = curves
  if not panels:
    return []
  picture = Figure(out / "learning.png", "Learning curves")
  title = "Learning curves: thin, single runs; thick, their mean"
  figures.draw_curves(picture.path, title, panels)
  return [Section("Learning curves", [picture])]


def _cost_section(
  out: pathlib.Path,
  rows: Sequence[Configuration],
  costs: Mapping[str, Cost],
  tasks: Sequence[str],
) -> Section:
  dates: dict[str, set[int]] = {}
  for cost in costs.values():
    for series, number in cost.num_dates.items():
      dates.setdefault(series, set()).add(number)
  listed = ", ".join(
    f"{' or '.join(map(str, sorted(numbers)))} dates of {series}"
    for series, numbers in dates.items()
  )
  parts: list[Part] = [
    tables.cost_table(rows, costs),
    "Forward: operations of one patch without auxiliary decoders"
    f"{f', with {listed}, the longest of the data' if listed else ''}. "
    "Training: three times the forward pass, auxiliary decoders included, "
    "times patches per step and steps. Hours: of the training steps by the "
    "clock, on the machine that took them, validation not included; mean over "
    "seeds.",
  ]
  axes = {
    "parameters": (
      "parameters (millions, without fusion)",
      {n: c.num_parameters_published / 1e6 for n, c in costs.items()},
    ),
    "training": (
      "training (PFLOP)",
      {
        n: c.training_flops / 1e15 if c.training_flops else None
        for n, c in costs.items()
      },
    ),
  }
  for task in tasks:
    having = [row for row in rows if task in row.tasks]
    name = labels.TASKS[task].short_name
    for key, (label, x) in axes.items():
      points = _points(having, task, x, published_x=key == "parameters")
      if len(points) + any(p.published_x for p in points) < 2:
        continue  # nothing to compare
      title = f"mIoU of {name} against {label.partition(' (')[0]}"
      if key == "training":
        title += " cost"
      picture = Figure(out / f"cost_{key}_{task}.png", title)
      figures.draw_points(picture.path, title, label, points, list(costs))
      parts.append(picture)
  return Section("Costs", parts)


def _names_by_folder(rows: Sequence[Configuration]) -> dict[pathlib.Path, str]:
  return {run.folder: row.name for row in rows for run in row.runs.values()}


def _origin_sections(
  found: Sequence[runs.Run], rows: Sequence[Configuration]
) -> list[Section]:
  """What the configurations and runs are."""
  sections = []
  if len(rows) > 1:
    text = "The fields in which the configurations differ."
    table = tables.field_table(rows)
    sections.append(Section("Configurations", [text, table]))
  table = tables.run_table(found, _names_by_folder(rows))
  return [*sections, Section("Runs", [table])]
