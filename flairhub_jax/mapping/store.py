"""Files of the finished rows of a map, beside it until it is complete.

A killed run resumes at the first unfinished band, and several jobs write their
own bands. The folder belongs to one map, by the digest of all that determines
it.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from flairhub_jax import atomic, lock, run_directory
from flairhub_jax.errors import InputError
from flairhub_jax.mapping.bands import Job

_LOCK = "run.lock"
# Seconds for which jobs wait for each other at their start.
_PATIENCE = 10.0


@dataclasses.dataclass(frozen=True)
class Counts:
  """Windows of a band, or of a map.

  Attributes:
    num_absent: sensor -> number of windows without it.
    num_windows: number of windows with data.
  """

  num_absent: Mapping[str, int] = dataclasses.field(default_factory=dict)
  num_windows: int = 0


def total(counts: Iterable[Counts]) -> Counts:
  """Sums the counts of bands."""
  num_absent: dict[str, int] = {}
  num_windows = 0
  for each in counts:
    num_windows += each.num_windows
    for name, number in each.num_absent.items():
      num_absent[name] = num_absent.get(name, 0) + number
  return Counts(num_absent, num_windows)


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

  @property
  def num_bytes(self) -> int:
    """Size of all files."""
    return sum(self.layers.values()) * self._shape[0] * self._shape[1]

  def path(self, layer: str) -> pathlib.Path:
    """The file of a layer."""
    return self.folder / f"{layer}.raw"

  @contextlib.contextmanager
  def open(self, job: Job | None = None) -> Iterator[None]:
    """Creates the files or resumes, for this process alone.

    Args:
      job: that writes its own bands beside others; None: the whole map.

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
    with contextlib.ExitStack() as locks:
      self._lock(locks, job)
      self._check_identity()
      for layer, size in self.layers.items():
        with open(self.path(layer), "ab") as file:
          file.truncate(size * self._shape[0] * self._shape[1])
      yield

  def _lock(self, locks: contextlib.ExitStack, job: Job | None) -> None:
    whole = self.folder / _LOCK
    if job is None:
      locks.enter_context(lock.hold(whole, what="mapping"))
      for other in sorted(self.folder.glob("job-*.lock")):
        locks.enter_context(lock.hold(other, what="mapping"))
      return
    own = self.folder / f"job-{job.number}-of-{job.count}.lock"
    with lock.hold(whole, what="mapping", patience=_PATIENCE):
      locks.enter_context(lock.hold(own, what="mapping"))

  def _check_identity(self) -> None:
    path = self.folder / "identity.json"
    if not path.exists():
      atomic.write_text(path, json.dumps({"identity": self._identity}) + "\n")
      return
    identity = run_directory.read_json(path).get("identity")
    if identity != self._identity:
      raise InputError(
        self.folder,
        f"rows of this map ({self._identity[:12]}), or another --out",
        f"those of another unfinished one ({str(identity)[:12]})",
      )

  def finished(self) -> dict[int, Counts]:
    """Counts of the finished bands by number."""
    bands = {}
    for path in self.folder.glob("band-*.json"):
      content = run_directory.read_json(path)
      counts = Counts(content["num_absent"], content["num_windows"])
      bands[content["number"]] = counts
    return bands

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

  def finish(self, number: int, counts: Counts) -> None:
    """Records a band as finished, once its rows are on the disk."""
    for layer in self.layers:
      with open(self.path(layer), "rb") as file:
        os.fsync(file.fileno())
    content = {"number": number, **dataclasses.asdict(counts)}
    path = self.folder / f"band-{number:05}.json"
    atomic.write_text(path, json.dumps(content) + "\n")

  def remove(self) -> None:
    """Removes the folder."""
    shutil.rmtree(self.folder, ignore_errors=True)
