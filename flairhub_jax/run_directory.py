"""The directory of a run: its files and the configuration it belongs to."""

import hashlib
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from flairhub_jax import atomic, configuration, lock, processes
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError, listed

# Name of the results on the training data of a run.
OWN_DATA = "own"


class RunDirectory:
  """Paths of the files of a run.

  `config.json` (resolved configuration), `checkpoints/`, `metrics.jsonl`,
  `tensorboard/`, `log.txt`, `profile/`, `results/<data>/<split>/`. A run of
  imported weights also has `origin.json`; it, and runs that start from it, have
  `reference_only.safetensors`, the weights that the network does not use
  (`weights/reference_only.py`). `run.lock` names the process that writes here.
  """

  def __init__(self, path: str | os.PathLike):
    """Creates and reads nothing."""
    self.path = pathlib.Path(path).absolute()
    self.config = self.path / "config.json"
    self.checkpoints = self.path / "checkpoints"
    self.metrics = self.path / "metrics.jsonl"
    self.tensorboard = self.path / "tensorboard"
    self.log = self.path / "log.txt"
    self.profile = self.path / "profile"
    self.origin = self.path / "origin.json"
    self.reference_only = self.path / "reference_only.safetensors"
    self.lock = self.path / "run.lock"

  def results(self, split: str, data: str = OWN_DATA) -> pathlib.Path:
    """Folder of the results on a split; `data` is from `data_name`."""
    return self.path / "results" / data / split

  def find_results(self, split: str, config: Any) -> pathlib.Path | None:
    """Finds the results on a split for the comparison of runs.

    These are the results on the training data set or, for imported weights, on
    the only evaluated one. Earlier versions wrote `results/<split>/`.

    Args:
      split: name of the split.
      config: of the run.

    Returns:
      The folder; None if there are no such results.

    Raises:
      InputError: a run of imported weights has results on several data sets.
    """
    own = self.results(split)
    if (own / "scores.json").is_file():
      return own
    earlier, data = self.path / "results" / split, config.data.fingerprint
    if (earlier / "scores.json").is_file():
      if data in ("", _data_of(earlier / "scores.json")):
        return earlier
    if data:
      return None
    files = sorted((self.path / "results").glob(f"*/{split}/scores.json"))
    if len(files) > 1:
      names = ", ".join(path.parts[-3] for path in files)
      raise InputError(
        self.path / "results", "results on one data set to compare by", names
      )
    return files[0].parent if files else None

  def other_results(self, split: str) -> list[str]:
    """Names of other data sets with results on a split."""
    files = (self.path / "results").glob(f"*/{split}/scores.json")
    return sorted({path.parts[-3] for path in files} - {OWN_DATA})

  def checkpoint_digest(self, step: int) -> str:
    """Identifies a checkpoint without reading its arrays.

    The manifest lists their files, which have random names.

    Returns:
      The first half of a SHA-256; "" if there is no such checkpoint.
    """
    manifest = self.checkpoints / str(step) / "state" / "manifest.ocdbt"
    if not manifest.is_file():
      return ""
    return hashlib.sha256(manifest.read_bytes()).hexdigest()[:32]


def _data_of(scores: pathlib.Path) -> str | None:
  """Fingerprint of the data in a file of scores, or None."""
  try:
    return json.loads(scores.read_text(encoding="utf-8"))["data"]
  except (ValueError, KeyError, TypeError):
    return None


def data_name(folder: str | pathlib.Path, fingerprint: str, config: Any) -> str:
  """Name of a data set in the `results/` of a run.

  Args:
    folder: of the converted data.
    fingerprint: of the data.
    config: of the run.

  Returns:
    `OWN_DATA` for the training data, else `<folder>-<8 digits>`.
  """
  if fingerprint == config.data.fingerprint:
    return OWN_DATA
  name = re.sub(r"[^\w.-]+", "_", pathlib.Path(folder).absolute().name)
  return f"{name or 'data'}-{fingerprint[:8]}"


def is_of_checkpoint(run: RunDirectory, results: Mapping[str, Any]) -> bool:
  """Whether results are of the current checkpoint of their step.

  Also True if the checkpoint was deleted, or if the results, of an earlier
  version, have no checkpoint digest.
  """
  now = run.checkpoint_digest(results["step"])
  return not now or results.get("checkpoint", "") in ("", now)


def config_digest(config: Any) -> str:
  """SHA-256 of a configuration without the fields that change no result."""
  content = {
    name: value
    for name, value in configuration.flatten(config).items()
    if base.has_effect(name) and name != "data.fingerprint"
  }
  text = json.dumps(content, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def conflicts(old: Any, new: Any) -> list[str]:
  """Lists the differences that keep `new` from continuing a run of `old`."""
  return [
    line
    for line in configuration.differences(old, new)
    if base.has_effect(line.partition(":")[0].removeprefix("config."))
  ]


def start_or_continue(path: str | pathlib.Path, config: Any) -> RunDirectory:
  """Creates the directory of a new run, or accepts one of this config.

  The first process of the job then holds its lock until it ends.

  Raises:
    InputError: the directory belongs to another configuration, holds imported
      weights or other files, or another process trains there.
  """
  run = RunDirectory(path)
  _check_folder(run, config)
  if processes.is_first():
    lock.acquire_for_life(run.lock, what="training")
    # Another process may have begun, and ended, in between.
    if not _check_folder(run, config):
      atomic.write_text(run.config, configuration.to_json(config))
    start = RunDirectory(config.train.init_from).reference_only
    if config.train.init_from and start.is_file():
      with atomic.write_aside(run.reference_only) as aside:
        shutil.copyfile(start, aside)
  return run


def _check_folder(run: RunDirectory, config: Any) -> bool:
  """Checks the folder, and returns whether it has a run of `config`."""
  if run.origin.exists():
    raise InputError(
      run.path,
      f"another folder, with --config.train.init_from={run.path} to start from "
      "these weights",
      "imported weights",
    )
  if run.config.exists():
    stored = configuration.load_json(run.config)
    old, new = stored.data.fingerprint, config.data.fingerprint
    if old != new:
      raise InputError(
        run.path,
        f"the data set of this run (fingerprint {old})",
        f"{config.data.path} (fingerprint {new})",
      )
    lines = conflicts(stored, config)
    if lines:
      raise InputError(
        run.path, "a run of this configuration", listed(lines, "; ")
      )
    return True
  # A run killed early has only its lock.
  if run.path.exists() and any(
    file.stem != run.lock.stem for file in run.path.iterdir()
  ):
    raise InputError(
      run.path, "a run directory or an empty folder", "other files"
    )
  return False


def open_run(
  path: str | os.PathLike,
) -> tuple[RunDirectory, Any]:
  """Opens a run directory and loads its configuration.

  Raises:
    InputError: it is not a run directory.
  """
  run = RunDirectory(path)
  if not run.config.is_file():
    raise InputError(run.path, "a run directory (config.json)", "none")
  return run, configuration.load_json(run.config)


def last_step(config: Any, validations: Iterable[Mapping[str, Any]]) -> int:
  """Returns the last step of a run.

  That is `train.num_steps`, or the step of early stopping: the validation at
  which the score has not improved for `train.patience` validations.

  Args:
    config: resolved configuration.
    validations: records of all validations so far, in order.
  """
  best, stale = -math.inf, 0
  for record in validations if config.train.patience else ():
    score = record[config.train.best_metric]
    best, stale = (score, 0) if score > best else (best, stale + 1)
    if stale >= config.train.patience:
      return record["step"]
  return config.train.num_steps


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object.

  Raises:
    InputError: the file cannot be read, or is not a JSON object.
  """
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise InputError(path, "JSON", error) from error
  if not isinstance(found, dict):
    raise InputError(path, "a JSON object", type(found).__name__)
  return found


def read_records(path: pathlib.Path) -> list[Any]:
  """Reads JSON lines; an incomplete last line of a killed writer is ignored."""
  if not path.exists():
    return []
  records = []
  for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
    try:
      record = json.loads(line)
    except (ValueError, RecursionError):
      break
    if not isinstance(record, dict):
      break
    records.append(record)
  return records
