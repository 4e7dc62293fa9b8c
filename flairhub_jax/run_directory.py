"""The folder of a run: what it holds, and whose it is."""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from flairhub_jax import atomic, configuration
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError


class RunDirectory:
  """Names the files of a run.

  `config.json` (resolved configuration), `checkpoints/`, `metrics.jsonl`,
  `tensorboard/`, `log.txt`, `profile/`, `results/<split>/`; and `origin.json`
  where the weights were trained elsewhere and imported.
  """

  def __init__(self, path: str | pathlib.Path):
    """Names only; nothing is made or read."""
    self.path = pathlib.Path(path).absolute()
    self.config = self.path / "config.json"
    self.checkpoints = self.path / "checkpoints"
    self.metrics = self.path / "metrics.jsonl"
    self.tensorboard = self.path / "tensorboard"
    self.log = self.path / "log.txt"
    self.profile = self.path / "profile"
    self.origin = self.path / "origin.json"

  def results(self, split: str) -> pathlib.Path:
    """Folder of the results on a split."""
    return self.path / "results" / split


def conflicts(old: Any, new: Any) -> list[str]:
  """Lists the differences by which `new` cannot continue a run of `old`."""
  return [
    line
    for line in configuration.differences(old, new)
    if base.has_effect(line.partition(":")[0].removeprefix("config."))
  ]


def start_or_continue(path: str | pathlib.Path, config: Any) -> RunDirectory:
  """Makes the folder of a new run, or accepts the one this config began.

  Raises:
    InputError: the folder belongs to another configuration, holds imported
      weights, or something else than a run.
  """
  run = RunDirectory(path)
  if run.origin.exists():
    raise InputError(
      run.path,
      f"a folder of its own, with --config.train.init_from={run.path} to start "
      "from these weights",
      "imported weights",
    )
  if run.config.exists():
    began = configuration.load_json(run.config)
    old, new = began.data.fingerprint, config.data.fingerprint
    if old != new:
      raise InputError(
        run.path,
        f"the data set that this run began on (fingerprint {old})",
        f"another one in {config.data.path} (fingerprint {new})",
      )
    lines = conflicts(began, config)
    if lines:
      raise InputError(
        run.path, "a run of this configuration", "; ".join(lines)
      )
    return run
  if run.path.exists() and any(run.path.iterdir()):
    raise InputError(
      run.path, "a run directory or an empty folder", "other files"
    )
  run.path.mkdir(parents=True, exist_ok=True)
  atomic.write_text(run.config, configuration.to_json(config))
  return run


def open_run(
  path: str | pathlib.Path,
) -> tuple[RunDirectory, Any]:
  """Opens the folder of a run with its configuration.

  Raises:
    InputError: it is no run directory.
  """
  run = RunDirectory(path)
  if not run.config.is_file():
    raise InputError(run.path, "a run directory (config.json)", "none")
  return run, configuration.load_json(run.config)


def last_step(config: Any, validations: Iterable[Mapping[str, Any]]) -> int:
  """Returns the step at which a run ends.

  That is `train.num_steps`, or the validation before it with which the score
  has not improved for `train.patience` of them.

  Args:
    config: resolved configuration.
    validations: records of those so far, in order.
  """
  best, stale = -math.inf, 0
  for record in validations if config.train.patience else ():
    score = record[config.train.best_metric]
    best, stale = (score, 0) if score > best else (best, stale + 1)
    if stale >= config.train.patience:
      return record["step"]
  return config.train.num_steps


def read_records(path: pathlib.Path) -> list[Any]:
  """Reads JSON lines; an unfinished last line (a killed writer) is dropped."""
  if not path.exists():
    return []
  records = []
  for line in path.read_text(encoding="utf-8").splitlines():
    try:
      records.append(json.loads(line))
    except ValueError:
      break
  return records
