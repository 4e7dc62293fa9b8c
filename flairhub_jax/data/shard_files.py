"""Shards of records: written one by one, read as one stream.

A record is a safetensors byte string of named arrays, see `records`.
"""

import bisect
import collections
import contextlib
import dataclasses
import hashlib
import itertools
import operator
import pathlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, SupportsIndex

import numpy as np
import safetensors
import safetensors.numpy
from array_record.python import array_record_module

from flairhub_jax import atomic
from flairhub_jax.errors import InputError

# Compression shrinks labels by a factor of 30, but imagery only by 10 %;
# decompressing imagery would take four times as long as reading it.
_COMPRESSED = "group_size:1,zstd:1"
_UNCOMPRESSED = "group_size:1,uncompressed"

# Maximum number of open shards per stream; each has a file descriptor, and
# opening one takes 0.15 ms.
_MAX_OPEN_SHARDS = 64


def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
  """Serialises named arrays as one safetensors byte string."""
  return safetensors.numpy.save(
    {name: np.ascontiguousarray(array) for name, array in arrays.items()}
  )


def decode(record: bytes) -> dict[str, np.ndarray]:
  """Returns the named arrays of a record."""
  return safetensors.numpy.load(record)


def shard_name(split: str, stream: str, index: int, num_shards: int) -> str:
  """Returns a shard's path relative to the folder of the data set."""
  return f"{split}/{stream}-{index:05d}-of-{num_shards:05d}.array_record"


@contextlib.contextmanager
def open_shard(
  path: pathlib.Path, *, is_imagery: bool
) -> Iterator[array_record_module.ArrayRecordWriter]:
  """Yields a writer (`write(bytes)`) of the shard `path`.

  The file is renamed to `path` when the block ends without an exception.
  """
  options = _UNCOMPRESSED if is_imagery else _COMPRESSED
  with atomic.write_aside(path) as aside:
    writer = array_record_module.ArrayRecordWriter(str(aside), options)
    try:
      yield writer
    finally:
      writer.close()


@dataclasses.dataclass(frozen=True)
class Shard:
  """A shard: path relative to the data set, size in bytes, digest, records."""

  file: str
  sha256: str
  bytes: int
  num_records: int


def describe_shard(folder: pathlib.Path, file: str, num_records: int) -> Shard:
  """Returns the entry of a finished shard in `dataset.json`."""
  with open(folder / file, "rb") as opened:
    digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Shard(file, digest, opened.tell(), num_records)


class Stream:
  """Random access to the records of one stream, over all its shards.

  Cheap to pickle; files are opened on first use. Several threads may read
  concurrently.
  """

  def __init__(self, folder: pathlib.Path, shards: tuple[Shard, ...]):
    """Takes the shards, in order, with paths relative to `folder`."""
    self._folder = folder
    self._shards = shards
    counts = (shard.num_records for shard in shards)
    self._ends = list(itertools.accumulate(counts))
    self._readers: collections.OrderedDict[int, Any] = collections.OrderedDict()
    self._lock = threading.Lock()

  def __getstate__(self) -> dict[str, Any]:
    return {"folder": self._folder, "shards": self._shards}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__init__(**state)  # type: ignore[misc]

  def __len__(self) -> int:
    """Number of records, which is the number of patches."""
    return self._ends[-1]

  def __getitem__(self, index: SupportsIndex) -> dict[str, np.ndarray]:
    """Returns the arrays of record `index`.

    Raises:
      IndexError: there is no such record.
      InputError: the shard is gone or damaged.
    """
    index = operator.index(index)
    if not 0 <= index < len(self):
      raise IndexError(f"record {index} of {len(self)}")
    shard = bisect.bisect_right(self._ends, index)
    start = self._ends[shard - 1] if shard else 0
    path = self._folder / self._shards[shard].file
    try:
      [record] = self._reader(shard, path).read([index - start])
      return decode(record)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
      raise InputError(
        path, f"a readable record {index - start}", error
      ) from error

  def _reader(
    self, shard: int, path: pathlib.Path
  ) -> array_record_module.ArrayRecordReader:
    with self._lock:
      if shard not in self._readers:
        if not path.is_file():
          raise FileNotFoundError("no file of that name")
        self._readers[shard] = array_record_module.ArrayRecordReader(
          str(path),
          options="readahead_buffer_size:0",
          file_reader_buffer_size=32768,
        )
      self._readers.move_to_end(shard)
      if len(self._readers) > _MAX_OPEN_SHARDS:
        # Not closed here: another thread may be reading it.
        self._readers.popitem(last=False)
      return self._readers[shard]
