"""The runs of a sweep: names, folders and progress."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flairhub_jax import (
  atomic,
  configuration,
  run_directory,
  text_table,
)
from flairhub_jax.errors import InputError, listed
from flairhub_jax.schema import LabelTask

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*(/[A-Za-z0-9][\w.+-]*)?", re.ASCII)

Runs = Sequence[tuple[str, Any]]


class SweepDirectory:
  """Paths of the files of a sweep.

  `runs/<name>/` is a run directory like any other. `configs/<name>.json` is
  the planned configuration: a queued or continued run does not change when the
  sweep file does. `logs/<name>/` has the output of the processes of a run.
  """

  def __init__(self, path: str | os.PathLike):
    """Only defines paths; reads and writes nothing."""
    self.path = pathlib.Path(path).absolute()
    self.lock = self.path / "sweep.lock"
    self.slurm_jobs = self.path / "slurm_jobs.json"
    self.compiled = self.path / "compiled"

  def run(self, name: str) -> run_directory.RunDirectory:
    """The run directory."""
    return run_directory.RunDirectory(self.path / "runs" / name)

  def config(self, name: str) -> pathlib.Path:
    """The planned configuration."""
    return self.path / "configs" / f"{name}.json"

  def logs(self, name: str) -> pathlib.Path:
    """The folder of the output of its processes."""
    return self.path / "logs" / name


def check_runs(runs: Runs, where: object) -> None:
  """Checks names and configurations of the runs of a sweep.

  Args:
    runs: name and configuration of each.
    where: the sweep file, for errors.

  Raises:
    InputError: no run; a name that cannot be a folder or is not unique; two
      runs with the same configuration.
  """
  if not runs:
    raise InputError(where, "at least one run", "none")
  names: set[str] = set()
  for name, _ in runs:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
      raise InputError(
        where, "names of letters, digits and . _ + -, such as a/b", repr(name)
      )
    if name in names:
      raise InputError(where, "unique names of runs", f"{name} twice")
    names.add(name)
  for name in sorted(names):
    if name.partition("/")[0] in names - {name}:
      raise InputError(where, "no run inside another", name)
  by_config: dict[str, str] = {}
  for name, config in runs:
    other = by_config.setdefault(configuration.to_json(config), name)
    if other != name:
      raise InputError(
        where, "different configurations", f"{other} and {name} alike"
      )


def check_plan(directory: SweepDirectory, runs: Runs) -> None:
  """Checks that the runs match the configurations written before.

  Raises:
    InputError: a run differs; the message names the fields.
  """
  for name, config in runs:
    path = directory.config(name)
    if not path.exists():
      continue
    lines = run_directory.conflicts(configuration.load_json(path), config)
    if lines:
      raise InputError(path, "the planned configuration", listed(lines, "; "))


def write_plan(directory: SweepDirectory, runs: Runs) -> None:
  """Writes the configuration of every run."""
  for name, config in runs:
    path = directory.config(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, configuration.to_json(config))


@dataclasses.dataclass(frozen=True)
class Progress:
  """Progress of a run, read from its directory.

  Attributes:
    step: of the latest checkpoint.
    num_steps: total; None before the run has started.
    best: best validation score, by the metric of the configuration.
    scores: mIoU by task on the split, of the current best checkpoint.
  """

  step: int = 0
  num_steps: int | None = None
  best: float | None = None
  scores: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def is_trained(self) -> bool:
    """Whether the latest checkpoint is of the last step."""
    return self.num_steps is not None and self.step >= self.num_steps

  @property
  def state(self) -> str:
    """`new`, `unfinished`, or `finished`: trained and evaluated."""
    if self.is_trained and self.scores:
      return "finished"
    return "new" if self.num_steps is None else "unfinished"


def read_progress(
  run: run_directory.RunDirectory, split: str, subsets: str | None = None
) -> Progress:
  """Reads the progress of a run.

  Args:
    run: its directory, which may not exist.
    split: of the evaluation.
    subsets: subsets of modalities to evaluate; None: only the full set.
  """
  if not run.config.is_file():
    return Progress()
  config = configuration.load_json(run.config)
  # A complete checkpoint is a folder named by its step; an incomplete one has a
  # suffix. Orbax would initialise JAX, and with it the accelerator, which this
  # process must leave to the runs.
  steps = {0}
  if run.checkpoints.is_dir():
    steps |= {
      int(f.name) for f in run.checkpoints.iterdir() if f.name.isdigit()
    }
  metric = config.train.best_metric
  validations = [
    record
    for record in run_directory.read_records(run.metrics)
    if record["kind"] == "valid" and metric in record
  ]
  return Progress(
    step=max(steps),
    num_steps=run_directory.last_step(config, validations),
    best=max((record[metric] for record in validations), default=None),
    scores=_read_scores(run, config, split, subsets, steps),
  )


def _read_scores(
  run: run_directory.RunDirectory,
  config: Any,
  split: str,
  subsets: str | None,
  steps: set[int],
) -> dict[str, float]:
  folder = run.find_results(split, config)
  if folder is None:
    return {}
  names = ["scores.json"] + (["subsets.json"] if subsets else [])
  files = [folder / name for name in names]
  if not all(path.is_file() for path in files):
    return {}
  results = [run_directory.read_json(path) for path in files]
  try:
    if not all(
      result["step"] in steps and run_directory.is_of_checkpoint(run, result)
      for result in results
    ):
      return {}  # of a checkpoint that a better one has replaced
    tasks = results[0]["tasks"].items()
    return {task: float(values["miou"]) for task, values in tasks}
  except (KeyError, TypeError, AttributeError, ValueError) as error:
    raise InputError(
      folder, "results of `evaluate`", f"invalid results ({error!r})"
    ) from error


def format_plan(runs: Runs, progress: Mapping[str, Progress]) -> str:
  """Renders the plan of a sweep, one line per run."""
  varying = configuration.varying_fields([config for _, config in runs])
  width = max(len(name) for name, _ in runs)
  lines = []
  for (name, _), fields in zip(runs, varying, strict=True):
    values = " ".join(f"{key}={value}" for key, value in fields.items())
    lines.append(
      f"{name:{width}}  {progress[name].state:10}  {values}".rstrip()
    )
  return "\n".join(lines)


def tasks_of(runs: Runs) -> dict[str, LabelTask]:
  """Returns the tasks of the runs by id, in schema order."""
  return {
    name: task
    for _, config in runs
    for name, task in config.schema.tasks.items()
  }


def format_table(
  states: Mapping[str, str],
  progress: Mapping[str, Progress],
  split: str,
  label_tasks: Mapping[str, LabelTask],
) -> str:
  """Renders the progress and scores of every run.

  Args:
    states: of each run, by name.
    progress: of each run, by name.
    split: on which the runs were evaluated.
    label_tasks: from `tasks_of`.
  """
  tasks = [
    task
    for task in label_tasks
    if any(task in progress[name].scores for name in states)
  ]
  headers = ["run", "state", "step", "best valid"]
  headers += [f"{split} mIoU {label_tasks[task].short_name}" for task in tasks]
  rows = []
  for name, state in states.items():
    run = progress[name]
    step = "-" if run.num_steps is None else f"{run.step}/{run.num_steps}"
    numbers = [run.best, *(run.scores.get(task) for task in tasks)]
    rows.append(
      [name, state, step, *("-" if n is None else f"{n:.2f}" for n in numbers)]
    )
  return text_table.format_table(headers, rows, text=2)
