"""Partial sums of an evaluation on disk, from which it can be continued."""

import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from flairhub_jax import atomic

# Nested dictionaries of sums over patches.
Sums = dict[str, Any]


class PartialSums:
  """A file of sums over the first patches of a split."""

  SECONDS_BETWEEN = 30.0

  def __init__(self, path: pathlib.Path, origin: Mapping[str, Any]):
    """Reads no file; a file of another `origin` is ignored."""
    self._path = path
    self._origin = dict(origin)
    self._saved = time.monotonic()

  def load(self) -> tuple[int, Sums]:
    """Returns the number of evaluated patches, and their sums.

    A file that cannot be read, or of another origin, is ignored.
    """
    try:
      content = json.loads(self._path.read_text(encoding="utf-8"))
      if content["origin"] != self._origin:
        return 0, {}
      return int(content["patches"]), _arrays(content["sums"])
    except (OSError, ValueError, KeyError, TypeError):
      return 0, {}

  def save(self, patches: int, sums: Sums) -> None:
    """Writes the sums, at most every `SECONDS_BETWEEN` seconds."""
    if time.monotonic() - self._saved < self.SECONDS_BETWEEN:
      return
    content = {
      "origin": self._origin,
      "patches": patches,
      "sums": jax.tree.map(np.ndarray.tolist, sums),
    }
    atomic.write_text(self._path, json.dumps(content))
    self._saved = time.monotonic()

  def remove(self) -> None:
    """Removes the file, after the evaluation."""
    self._path.unlink(missing_ok=True)


def _arrays(node):
  if isinstance(node, dict):
    return {key: _arrays(value) for key, value in node.items()}
  return np.array(node)
