"""Runs as a report reads them: configuration, state and scores."""

import dataclasses
import functools
import glob
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flairhub_jax import configuration, metrics, run_directory
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError

FINISHED = "finished"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """One run directory.

  Attributes:
    folder: its path.
    config: its resolved configuration.
    records: lines of `metrics.jsonl`.
    scores: `scores.json` of the results on its own data; None before
      `evaluate`.
    subsets: `subsets.json` in the same folder; None without it.
    state: `FINISHED`, or the reason why its scores are not averaged.
  """

  folder: pathlib.Path
  config: Any
  records: Sequence[Mapping[str, Any]]
  scores: Mapping[str, Any] | None
  subsets: Mapping[str, Any] | None
  state: str

  @property
  def seed(self) -> int:
    """Seed of its random numbers."""
    return self.config.seed

  @property
  def title(self) -> str:
    """Name in a report: the last two components of the path."""
    return f"{self.folder.parent.name}/{self.folder.name}"

  @functools.cached_property
  def fields(self) -> dict[str, Any]:
    """The `relevant_fields` of its configuration."""
    return relevant_fields(self.config)

  @property
  def is_finished(self) -> bool:
    """Whether its scores may be averaged."""
    return self.state == FINISHED


def find_runs(patterns: Sequence[str], split: str) -> list[Run]:
  """Reads all run directories that the patterns match, or that lie below.

  Args:
    patterns: globs of run directories, or of folders up to two levels above
      them.
    split: of the results.

  Returns:
    The runs sorted by folder, numbers within names as numbers.

  Raises:
    InputError: there is no run, a file of one cannot be read, or two runs have
      different data sets.
  """
  matches = {
    pathlib.Path(match).absolute()
    for pattern in patterns
    for match in glob.glob(pattern)
  }
  folders = set()
  for match in matches:
    folders |= _below(match, depth=2)
  if not folders:
    raise InputError(
      "--runs", "a pattern that matches run directories", " ".join(patterns)
    )
  runs = [read_run(folder, split) for folder in sorted(folders, key=_natural)]
  _check_data(runs)
  return _without_repetitions(runs)


def _below(folder: pathlib.Path, depth: int) -> set[pathlib.Path]:
  """Run directories at or below a folder, none inside another."""
  if (folder / "config.json").is_file():
    return {folder}
  if not depth or not folder.is_dir():
    return set()
  return set().union(*(_below(f, depth - 1) for f in folder.iterdir()))


def _natural(path: pathlib.Path) -> list[Any]:
  return [
    [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
    for parts in (re.split(r"(\d+)", name) for name in path.parts)
  ]


def read_run(folder: pathlib.Path, split: str) -> Run:
  """Reads the files that a run has written so far.

  Raises:
    InputError: a file is not as training or evaluation writes it.
  """
  try:
    run, config = run_directory.open_run(folder)
    relevant_fields(config)
  except (AttributeError, KeyError, TypeError) as error:
    raise InputError(
      folder / "config.json", "the configuration of a run", _in_words(error)
    ) from error
  records = _read_records(run.metrics)
  scores, subsets = None, None
  if folder := run.find_results(split, config):
    scores = _read_results(folder / "scores.json", config)
    subsets = _read_results(folder / "subsets.json", config)
  state = _state(run, config, records, scores, subsets, split)
  return Run(
    folder=run.path,
    config=config,
    records=records,
    scores=scores,
    subsets=subsets,
    state=state,
  )


def _read_records(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the records of a run; an unterminated last line is skipped."""
  try:
    lines = path.read_text("utf-8").count("\n") if path.exists() else 0
    records = run_directory.read_records(path)
    steps = [int(record["step"]) for record in records if record["kind"]]
  except (ValueError, KeyError, TypeError) as error:
    raise InputError(path, "training records", _in_words(error)) from error
  if len(steps) < lines:
    raise InputError(f"{path}, line {len(steps) + 1}", "JSON", "invalid JSON")
  return records


def _read_results(path: pathlib.Path, config: Any) -> dict[str, Any] | None:
  """Reads scores, or scores by subset, and checks every value a report uses."""
  if not path.exists():
    return None
  content, tasks = run_directory.read_json(path), config.data.tasks
  try:
    numbers = [content["step"], len(content["data"])]
    rows = content["subsets"] if path.stem == "subsets" else [content]
    for scores in (row["tasks"][task] for row in rows for task in tasks):
      numbers += [scores[name] for name in metrics.AVERAGES]
      for values in scores["classes"].values():
        numbers += [values["iou"], values["pixels"]]
    if path.stem == "subsets":
      for names in (row["modalities"] for row in rows):
        if not names or not set(names) <= set(config.schema.sensors):
          raise ValueError(f"modalities {names}")
    if not all(isinstance(n, int | float) and abs(n) < 2**53 for n in numbers):
      raise TypeError("scores that are not numbers")
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    expected = f"results of `evaluate` on {', '.join(tasks)}"
    raise InputError(path, expected, _in_words(error)) from error
  return content


def _in_words(error: Exception) -> str:
  return f"no {error}" if isinstance(error, KeyError) else str(error)


def _state(run, config, records, scores, subsets, split) -> str:
  """`FINISHED`, or the reason why not; imported weights need no training."""
  metric = config.train.best_metric
  valid = [r for r in records if r["kind"] == "valid" and metric in r]
  if not run.origin.exists():
    steps = [r["step"] for r in records if r["kind"] == "train"]
    last = max(steps, default=0)
    num_steps = run_directory.last_step(config, valid)
    if last < num_steps:
      return f"unfinished: step {last} of {num_steps}"
  if scores is None:
    others = ", ".join(run.other_results(split))
    return f"not evaluated on {split}" + (others and f", only on {others}")
  validations = {r["step"]: r[metric] for r in valid}
  step = scores["step"]
  best = max(validations, key=validations.get, default=step)
  if step in validations and validations[step] < validations[best]:
    return f"evaluated at step {step}, before its best step {best}"
  if not run_directory.is_of_checkpoint(run, scores):
    return f"evaluated at step {step}, whose checkpoint was replaced since"
  if subsets is not None and subsets["step"] != step:
    return f"evaluated at step {step}, on subsets at step {subsets['step']}"
  if subsets is not None and subsets.get("weights") != scores.get("weights"):
    return f"evaluated at step {step}, on subsets with other weights"
  return FINISHED


def _check_data(runs: Sequence[Run]) -> None:
  """Raises InputError if two runs have different data sets.

  Training and evaluation data are compared separately: imported weights have no
  training data.
  """
  results = [(run, r) for run in runs for r in (run.scores, run.subsets) if r]
  for what, pairs in (
    ("training", [(run, run.config.data.fingerprint) for run in runs]),
    ("scores", [(run, content["data"]) for run, content in results]),
  ):
    pairs = [(run, data) for run, data in pairs if data]
    for run, data in pairs[1:]:
      first, first_data = pairs[0]
      if data != first_data:
        raise InputError(
          run.folder,
          f"{what} on the data of {first.folder} ({first_data[:12]})",
          f"other data ({data[:12]})",
        )


def _without_repetitions(runs: Sequence[Run]) -> list[Run]:
  """Marks repeated runs: the same configuration and seed as an earlier one.

  Their scores are equal, and would make the interval too narrow.
  """
  first_runs, result = {}, []
  for run in runs:
    if run.is_finished:
      key = json.dumps([run.seed, run.fields], sort_keys=True)
      first = first_runs.setdefault(key, run)
      if first is not run:
        run = dataclasses.replace(run, state=f"repeats {first.title}")
    result.append(run)
  return result


# Fields in which runs of one configuration may differ, or that follow from
# other fields: `find_runs` compares the data, and epochs are resolved to steps.
_IRRELEVANT = (
  "seed",
  "data.fingerprint",
  "train.num_epochs",
  "train.validate_epochs",
)


def relevant_fields(config: Any) -> dict[str, Any]:
  """Returns the fields that define a configuration, by dotted name.

  The seed is not among them, nor are fields without effect and fields of
  modalities, tasks and parts of the network that the run does not use.
  """
  return {
    name: value
    for name, value in configuration.flatten(config).items()
    if name not in _IRRELEVANT and base.has_effect(name)
    if _is_used(name.split("."), config)
  }


def _is_used(path: Sequence[str], config: Any) -> bool:
  """Whether a run uses the modality, task or part that a field belongs to."""
  modalities, sensors = config.data.modalities, config.schema.sensors
  match path:
    case "inputs", name, *_:
      return name in modalities
    case "tasks", name, *_:
      return name in config.data.tasks
    case "fusion", *_:
      is_of_another = path[-1] in sensors and path[-1] not in modalities
      return len(modalities) > 1 and not is_of_another
    case "model", "utae", *_:
      return any(sensors[name].is_series for name in modalities)
    case "auxiliary_weight", name, *_:
      return name in config.model.auxiliary
    case "optim", "encoder_rates", name, *_:
      return name in modalities
  return True


def as_record(run: Run) -> dict[str, Any]:
  """Returns all that a report uses of a run, ready for JSON.

  Its configuration, and its scores in percent: by task and class, and by subset
  of modalities.
  """

  def averages(tasks):
    return {
      task: {name: scores[name] for name in metrics.AVERAGES}
      for task, scores in tasks.items()
    }

  own = run.scores["tasks"] if run.scores else {}
  scores = averages(own)
  for task, values in scores.items():
    classes = own[task]["classes"].items()
    values["iou"] = {name: row["iou"] for name, row in classes}
  return {
    "run": run.title,
    "state": run.state,
    "seed": run.seed,
    "data": run.config.data.fingerprint,
    "weights": run.scores.get("weights") if run.scores else None,
    "config": run.fields,
    "scores": scores,
    "subsets": [
      {"modalities": entry["modalities"], "scores": averages(entry["tasks"])}
      for entry in (run.subsets["subsets"] if run.subsets else ())
    ],
  }
