"""Origin of results, identified by content, and folders for one origin."""

import hashlib
import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from flairhub_jax import atomic, run_directory
from flairhub_jax.errors import InputError

# Fields that identify an origin; the others are informative.
_CONTENT = ("weights", "config", "data", "split", "bias")
_MARKER = "origin.json"


def describe(
  run: run_directory.RunDirectory,
  config: Any,
  step: int,
  variables: Any,
  *,
  data: str,
  split: str,
  bias: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
  """Returns the origin that is stored with every result of a network.

  Args:
    run: directory of the network's run.
    config: configuration of the run.
    step: number of updates of the weights.
    variables: the weights, as stored.
    data: fingerprint of the data that are predicted.
    split: name of the split.
    bias: by task and class, from `bias.parse`.

  Returns:
    Names and digests, for JSON.
  """
  result = {
    "run": run.path.name,
    "step": step,
    "checkpoint": run.checkpoint_digest(step),
    "weights": digest(variables),
    "config": run_directory.config_digest(config),
    "data": data,
    "split": split,
  }
  if bias:
    result["bias"] = {task: dict(own) for task, own in bias.items()}
  return result


def digest(variables: Any) -> str:
  """SHA-256 of the names, dtypes, shapes and values of a tree of arrays."""
  sha256 = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    values = np.ascontiguousarray(leaf)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    sha256.update(f"{name} {values.dtype} {values.shape}\n".encode())
    sha256.update(values.data)
  return sha256.hexdigest()


def claim(
  folder: pathlib.Path, origin: Mapping[str, Any], *, what: str
) -> None:
  """Assigns a folder to an origin, or checks that it belongs to it.

  Args:
    folder: may exist.
    origin: from `describe`.
    what: content of the folder, for errors: "maps" or "results".

  Raises:
    InputError: the folder has other files, or is not writable.
  """
  marker = folder / _MARKER
  if marker.exists():
    _compare(folder, run_directory.read_json(marker), origin, what)
  elif folder.exists() and not folder.is_dir():
    raise InputError(folder, "a folder", "a file")
  elif folder.exists() and any(folder.iterdir()):
    raise InputError(
      folder, f"an empty folder or {what} of this run", "other files"
    )
  make_writable(folder)
  if not marker.exists():
    atomic.write_text(marker, json.dumps(dict(origin), indent=2) + "\n")


def make_writable(folder: pathlib.Path, *, otherwise: str = "") -> None:
  """Creates a folder if needed, and checks that it is writable.

  Args:
    folder: the folder.
    otherwise: the alternative, for the error.

  Raises:
    InputError: it cannot be created or is not writable.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise InputError(
      folder, f"a writable folder{otherwise}", error.strerror
    ) from error


def _compare(folder, stored, origin, what):
  differing = [key for key in _CONTENT if stored.get(key) != origin.get(key)]
  if not differing:
    return
  expected, actual = (
    ", ".join(f"{key} {_short(each.get(key))}" for key in differing)
    for each in (origin, stored)
  )
  raise InputError(
    folder,
    f"{what} of {expected} ({origin['run']}, step {origin['step']})",
    f"{what} of {actual} ({stored.get('run')}, step {stored.get('step')})",
  )


def _short(value):
  if isinstance(value, Mapping):  # a bias
    return json.dumps(value)
  return str(value)[:12] if value else "unknown"
