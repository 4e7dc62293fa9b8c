"""Files of the finished rows of a map, beside it until it is complete.

A killed run resumes at the first unfinished row. The folder belongs to one map,
by the digest of all that determines it.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping

import numpy as np

from flairhub_jax import atomic, lock, run_directory
from flairhub_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Progress:
  """Progress of a map.

  Attributes:
    rows: finished rows of the map, from the first.
    window_rows: finished rows of windows.
    places: for each row of windows that has been read, and for the row being
      read, the place of its first window in the sequence of windows with data.
    num_absent: sensor -> number of windows without it.
    num_windows: number of windows with data.
  """

  rows: int = 0
  window_rows: int = 0
  places: tuple[int, ...] = (0,)
  num_absent: Mapping[str, int] = dataclasses.field(default_factory=dict)
  num_windows: int = 0


class Store:
  """Raw files of the layers of a map, bands of a row beside each other.

  Attributes:
    folder: of the files.
    layers: name -> bytes of a pixel.
  """

  def __init__(
    self,
    out: pathlib.Path,
    identity: str,
    layers: Mapping[str, int],
    shape: tuple[int, int],
  ):
    """Names the files; nothing is written.

    Args:
      out: the map.
      identity: digest of all that determines it.
      layers: name -> bytes of a pixel.
      shape: rows and columns of the map.
    """
    self.folder = out.with_name(f".{out.stem}.parts")
    self.layers = dict(layers)
    self._identity, self._shape = identity, shape
    self._state = self.folder / "state.json"

  @property
  def num_bytes(self) -> int:
    """Size of all files."""
    return sum(self.layers.values()) * self._shape[0] * self._shape[1]

  def path(self, layer: str) -> pathlib.Path:
    """The file of a layer."""
    return self.folder / f"{layer}.raw"

  @contextlib.contextmanager
  def open(self) -> Iterator[Progress]:
    """Creates the files or resumes, for this process alone.

    Raises:
      InputError: the folder belongs to another map, cannot be written, or
        another process writes there.
    """
    try:
      self.folder.mkdir(exist_ok=True)
    except OSError as error:
      raise InputError(
        self.folder, "a folder that can be written", error.strerror
      ) from error
    with lock.hold(self.folder / "run.lock", what="mapping"):
      yield self._begin()

  def _begin(self) -> Progress:
    if self._state.exists():
      state = run_directory.read_json(self._state)
      if state.get("identity") != self._identity:
        other = str(state.get("identity"))[:12]
        raise InputError(
          self.folder,
          f"rows of this map ({self._identity[:12]}), or another --out",
          f"those of another unfinished one ({other})",
        )
      return Progress(
        state["rows"],
        state["window_rows"],
        tuple(state["places"]),
        state["num_absent"],
        state["num_windows"],
      )
    for layer, size in self.layers.items():
      with open(self.path(layer), "wb") as file:
        file.truncate(size * self._shape[0] * self._shape[1])
    progress = Progress()
    self.save(progress)
    return progress

  def write(
    self,
    first: int,
    layers: Mapping[str, np.ndarray],
    is_flipped: tuple[bool, bool],
  ) -> None:
    """Writes rows of all layers.

    Args:
      first: the first row, in the order of computation.
      layers: name -> [rows bands w].
      is_flipped: whether the file has rows, and columns, in reverse order.
    """
    height, width = self._shape
    for name, values in layers.items():
      count = len(values)
      start = height - first - count if is_flipped[0] else first
      if is_flipped[0]:
        values = values[::-1]
      if is_flipped[1]:
        values = values[..., ::-1]
      with open(self.path(name), "r+b") as file:
        file.seek(start * self.layers[name] * width)
        file.write(np.ascontiguousarray(values).data)
        file.flush()
        os.fsync(file.fileno())

  def save(self, progress: Progress) -> None:
    """Records finished rows, after they are on the disk."""
    content = {"identity": self._identity, **dataclasses.asdict(progress)}
    atomic.write_text(self._state, json.dumps(content) + "\n")

  def remove(self) -> None:
    """Removes the folder."""
    shutil.rmtree(self.folder, ignore_errors=True)
