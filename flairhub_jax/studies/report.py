"""The report of a study: tables, figures and text."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from flairhub_jax import atomic, figures
from flairhub_jax.errors import InputError
from flairhub_jax.schema import LabelTask
from flairhub_jax.studies import (
  configurations,
  pages,
  published,
  runs,
  scores,
  tables,
)
from flairhub_jax.studies.configurations import Configuration
from flairhub_jax.studies.pages import Figure, Part, Section

PAGE, TEXT, RECORDS = "report.html", "report.md", "runs.jsonl"

# Maximum number of configurations in a table, and of runs in a sentence.
_MAX_SHOWN = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """Runs with their scores and statistics.

  Attributes:
    out: folder of the report.
    split: on which the runs were evaluated.
    all_runs: in any state.
    rows: configurations of the finished runs, the baseline first.
    scores: of all finished runs, from `scores.read`.
    frames: from `tables.compute`, by name.
  """

  out: pathlib.Path
  split: str
  all_runs: Sequence[runs.Run]
  rows: Sequence[Configuration]
  scores: pd.DataFrame
  frames: Mapping[str, pd.DataFrame]

  @functools.cached_property
  def label_tasks(self) -> dict[str, LabelTask]:
    """Label tasks, by id."""
    return configurations.tasks_of(self.rows)

  @property
  def tasks(self) -> dict[str, str]:
    """Short names of the tasks, by id."""
    return {name: task.short_name for name, task in self.label_tasks.items()}

  @functools.cached_property
  def colours(self) -> dict[str, Any]:
    """Colours of the configurations, the same in all figures."""
    return figures.colours([row.name for row in self.rows])

  def of_task(self, name: str, task: str) -> pd.DataFrame:
    """Rows of a frame for a task."""
    frame = self.frames[name]
    return frame[frame["task"] == task]

  def miou(self, task: str) -> pd.DataFrame:
    """Statistics of the mIoU of a task, by configuration."""
    return tables.by_score(self.frames["scores"], task)["miou"]


def write(
  out: pathlib.Path,
  all_runs: Sequence[runs.Run],
  rows: Sequence[Configuration],
  split: str,
) -> list[pathlib.Path]:
  """Writes tables, figures, the Markdown file and the HTML page.

  Args:
    out: folder, created if it does not exist.
    all_runs: in any state.
    rows: configurations of the finished runs, the baseline first.
    split: on which the runs were evaluated.

  Returns:
    Paths of the files, the page first.

  Raises:
    InputError: `out` cannot be created.
  """
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError("--out", "a folder to write to", error) from error
  frame = scores.read(rows)
  frames = tables.compute(all_runs, rows, frame, out / "networks.json")
  study = Study(
    out=out,
    split=split,
    all_runs=all_runs,
    rows=rows,
    scores=frame,
    frames=frames,
  )
  sections = [
    Section("Overview", _overview(study)),
    *(part for task in study.tasks for part in _task_sections(study, task)),
    *_multiple_tasks(study),
    *_missing_modalities(study),
    *_learning(study),
    _cost_section(study),
    *_origin_sections(study),
  ]
  data_files = _write_data(study)
  title = f"{len(rows)} configurations, {len(all_runs)} runs"
  if len(rows) == 1:
    plural = "s" if len(all_runs) > 1 else ""
    title = f"{rows[0].name}, {len(all_runs)} run{plural}"
  atomic.write_text(out / TEXT, pages.as_markdown(title, sections))
  atomic.write_text(out / PAGE, pages.as_html(title, sections))
  parts = [part for section in sections for part in section.parts]
  images = [part.path for part in parts if isinstance(part, Figure)]
  return [out / PAGE, out / TEXT, *data_files, *images]


def _write_data(study: Study) -> list[pathlib.Path]:
  """Writes the frames as CSV, and the runs as JSON lines."""
  written = [study.out / RECORDS]
  lines = (json.dumps(runs.as_record(run)) + "\n" for run in study.all_runs)
  atomic.write_text(written[0], "".join(lines))
  for name, frame in study.frames.items():
    if len(frame):
      written.append(study.out / f"{name}.csv")
      shown_elsewhere = ["half_width", "published_parameters"]
      frame = frame.drop(columns=shown_elsewhere, errors="ignore")
      text = frame.to_csv(index=False, lineterminator="\n")
      atomic.write_text(written[-1], text)
  return written


def _overview(study: Study) -> list[str]:
  rows, all_runs = study.rows, study.all_runs
  finished = sum(len(row.runs) for row in rows)
  data = next(iter(rows[0].runs.values())).scores["data"]
  text = [
    f"Scores on the {study.split} split of the data set {data[:12]}, in "
    f"percent. Runs finished and averaged: {finished} of {len(all_runs)}, in "
    f"{len(rows)} configuration{'s' if len(rows) > 1 else ''}."
  ]
  others = [run for run in all_runs if not run.is_finished]
  if others:
    listed = "; ".join(f"{run.title} ({run.state})" for run in others)
    if len(others) > _MAX_SHOWN:
      listed = f"{len(others)} runs; section Runs gives the reasons"
    text.append(f"Not averaged: {listed}.")
  for task, name in study.tasks.items():
    miou = study.miou(task)
    best = miou["mean"].idxmax()
    value = tables.cells(miou, tables.WITH_INTERVAL)[best]
    text.append(f"Highest mIoU of {name}: {value} ({best}).")
  text.append(
    "± and [ ] give the 95 % interval of the mean over seeds, by Student's t; "
    "std is the sample standard deviation over seeds (n - 1). Differences are "
    "paired by seed, then averaged; “higher” and “lower” mean that the "
    "interval excludes 0, without correction for multiple comparisons."
  )
  single = [row.name for row in rows if len(row.runs) == 1]
  if single:
    text.append(f"One seed, hence no interval: {'; '.join(single)}.")
  return text


def _task_sections(study: Study, task: str) -> list[Section]:
  name, miou = study.tasks[task], study.miou(task)
  picture = Figure(study.out / f"scores_{task}.png", f"mIoU of {name}")
  own = scores.averages(study.scores)
  figures.draw_scores(
    picture.path,
    f"mIoU of {name} by configuration",
    miou,
    own[(own["task"] == task) & (own["score"] == "miou")],
    study.colours,
  )
  parts: list[Part] = [
    tables.score_table(study.frames["scores"], task),
    picture,
  ]
  if miou["published"].notna().any():
    parts.append(
      f"Published scores: {published.SOURCE}. They are listed beside runs with "
      "the same inputs and task, whatever their network and data."
    )
  sections = [Section(name.capitalize(), parts)]
  if len(miou) > 1:
    table = tables.difference_table(study.frames["differences"], task)
    title = f"Difference from {miou.index[0]}"
    sections.append(Section(title, [table], level=3))
  classes = study.of_task("classes", task)
  if len(classes):
    sections.append(_class_section(study, task, classes))
  return sections


def _class_section(study: Study, task: str, classes: pd.DataFrame) -> Section:
  name = study.tasks[task]
  picture = Figure(study.out / f"classes_{task}.png", f"IoU by class of {name}")
  figures.draw_class_heat_map(
    picture.path,
    f"IoU by class of {name}, mean over seeds",
    study.label_tasks[task],
    classes.pivot(index="configuration", columns="class", values="mean"),
  )
  parts: list[Part] = [picture, "Intervals: classes.csv."]
  if classes["configuration"].nunique() <= _MAX_SHOWN:
    parts[1] = tables.class_table(classes, study.label_tasks[task])
  return Section("IoU by class", parts, level=3)


def _multiple_tasks(study: Study) -> list[Section]:
  gains = study.frames["tasks"]
  if gains.empty:
    return []
  text = (
    "Gain or loss of multi-task training, compared with single-task runs that "
    "are otherwise equal."
  )
  table = tables.task_table(gains, study.frames["scores"], study.label_tasks)
  return [Section("Multi-task against single-task training", [text, table])]


def _missing_modalities(study: Study) -> list[Section]:
  text = (
    "Each trained network evaluated with every subset of its modalities; the "
    "others are masked out. The full set comes first."
  )
  sections = [Section("Missing modalities", [text])]
  for task, name in study.tasks.items():
    subsets = study.of_task("subsets", task)
    subsets = subsets[subsets["score"] == "miou"]
    if subsets.empty:
      continue
    picture = Figure(
      study.out / f"subsets_{task}.png",
      f"mIoU of {name} by subset of modalities",
    )
    figures.draw_subsets(
      picture.path,
      f"mIoU (%) of {name} with the dotted modalities only",
      subsets,
      study.colours,
      list(configurations.sensors_of(study.rows)),
    )
    parts: list[Part] = [picture, "Intervals: subsets.csv."]
    if subsets["configuration"].nunique() <= _MAX_SHOWN:
      parts[1] = tables.subset_table(subsets)
    sections.append(Section(name.capitalize(), parts, level=3))
  return sections if len(sections) > 1 else []


def _learning(study: Study) -> list[Section]:
  panels = {("train", "loss"): "training loss"} | {
    ("valid", f"{task}/miou"): f"validation mIoU of {name} (%)"
    for task, name in study.tasks.items()
  }
  curves = pd.DataFrame(
    [
      (title, row.name, seed, record["step"], record[field])
      for (kind, field), title in panels.items()
      for row in study.rows
      for seed, run in row.runs.items()
      for record in run.records
      if record["kind"] == kind and field in record
    ],
    columns=["panel", "configuration", "seed", "step", "value"],
  )
  # A single validation is no curve; the tables have its score.
  keys = ["panel", "configuration", "seed"]
  lengths = curves.groupby(keys)["step"].transform("size")
  panels_shown = curves.loc[lengths > 1, "panel"]
  curves = curves[curves["panel"].isin(panels_shown)]
  if curves.empty:
    return []
  picture = Figure(study.out / "learning.png", "Learning curves")
  title = "Learning curves: single runs (thin) and their mean (thick)"
  figures.draw_curves(picture.path, title, curves, study.colours)
  return [Section("Learning curves", [picture])]


def _cost_section(study: Study) -> Section:
  dates = {
    name: {
      row.config.inputs[name].num_dates
      for row in study.rows
      if name in row.config.data.modalities
    }
    for name, sensor in configurations.sensors_of(study.rows).items()
    if sensor.is_series
  }
  listed = ", ".join(
    f"{' or '.join(map(str, sorted(numbers)))} dates of {name}"
    for name, numbers in dates.items()
    if numbers
  )
  costs = study.frames["costs"].set_index("configuration")
  parts: list[Part] = [
    tables.cost_table(costs),
    "Forward: FLOPs per patch without auxiliary decoders"
    f"{f', with {listed}, the longest series of the data' if listed else ''}. "
    "Training: three times the FLOPs of the forward pass with auxiliary "
    "decoders, times patches per step and steps. Hours: wall-clock time of "
    "the training steps without validation, mean over seeds; it depends on "
    "the machine.",
  ]
  parameters = costs["parameters_without_fusion"] / 1e6
  axes = {
    "parameters (millions, without fusion)": parameters,
    "training cost (PFLOP)": costs["training_pflop"],
  }
  for task, name in study.tasks.items():
    for label, x in axes.items():
      key, _, _ = label.partition(" ")
      points = study.miou(task).assign(x=x, published_x=None)
      if x is parameters:
        points["published_x"] = costs["published_parameters"]
      points = points.dropna(subset="x")
      if len(points) + points["published_x"].notna().any() < 2:
        continue  # nothing to compare
      title = f"mIoU of {name} against {label.partition(' (')[0]}"
      picture = Figure(study.out / f"cost_{key}_{task}.png", title)
      figures.draw_points(picture.path, title, label, points, study.colours)
      parts.append(picture)
  return Section("Costs", parts)


def _origin_sections(study: Study) -> list[Section]:
  """Describes the configurations and the states of the runs."""
  sections = []
  if len(study.rows) > 1:
    text = "Fields in which the configurations differ."
    table = tables.field_table(study.rows)
    sections.append(Section("Configurations", [text, table]))
  table = tables.run_table(study.frames["runs"])
  return [*sections, Section("Runs", [table])]
