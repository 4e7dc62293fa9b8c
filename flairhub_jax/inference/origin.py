"""What made a result, by content, and whose results a folder holds."""

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

# By these, results are of one origin; names and steps are for people.
_CONTENT = ("weights", "config", "data", "split")
_MARKER = "origin.json"


def describe(
  run: run_directory.RunDirectory,
  config: Any,
  step: int,
  variables: Any,
  *,
  data: str,
  split: str,
) -> dict[str, Any]:
  """Returns what is kept with every result of a network.

  Args:
    run: its directory.
    config: its configuration.
    step: number of updates its weights have seen.
    variables: its weights, as stored.
    data: fingerprint of the data it is applied to.
    split: which of their splits.

  Returns:
    Names and digests, for JSON.
  """
  return {
    "run": run.path.name,
    "step": step,
    "checkpoint": run.checkpoint_digest(step),
    "weights": digest(variables),
    "config": run_directory.config_digest(config),
    "data": data,
    "split": split,
  }


def digest(variables: Any) -> str:
  """Sha256 of the names, types, shapes and numbers of a tree of arrays."""
  found = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    values = np.ascontiguousarray(leaf)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    found.update(f"{name} {values.dtype} {values.shape}\n".encode())
    found.update(values.data)
  return found.hexdigest()


def claim(
  folder: pathlib.Path, origin: Mapping[str, Any], *, what: str
) -> None:
  """Makes a folder that of one origin, or accepts that it is already.

  Args:
    folder: may exist.
    origin: of `describe`.
    what: is in the folder, for complaints: "maps" or "results".

  Raises:
    InputError: it holds something else, or cannot be written.
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
  """Makes a folder where there is none, and tries to write into it.

  Args:
    folder: the folder.
    otherwise: what else can be done, for the complaint.

  Raises:
    InputError: it cannot be made or written.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise InputError(
      folder, f"a folder that can be written{otherwise}", error.strerror
    ) from error


def _compare(folder, found, origin, what):
  differing = [key for key in _CONTENT if found.get(key) != origin[key]]
  if not differing:
    return
  here, there = (
    ", ".join(f"{key} {_short(which.get(key))}" for key in differing)
    for which in (origin, found)
  )
  raise InputError(
    folder,
    f"{what} of {here} ({origin['run']}, step {origin['step']})",
    f"{what} of {there} ({found.get('run')}, step {found.get('step')})",
  )


def _short(value):
  return str(value)[:12] if value else "unknown"
