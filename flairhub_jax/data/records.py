"""A converted data set on disk: `dataset.json` and sharded ArrayRecord files.

A split holds one stream per modality, one per task and `PATCH`; all streams of
a split have the same patch order and the same shard boundaries. A record is a
safetensors byte string of named arrays:

  image     {"values": [h w c]}
  series    {"values": [t h w c], "dates": int32 [t] days since 1970-01-01},
            for Sentinel-2 also "snow_cloud": uint8 [t h w 2], 0-100
  absent    {"absent": uint8 [0]}: this patch lacks the modality
  task      {"labels": uint8 [h w n]}, all bands of the file
  PATCH     {"json": uint8 [n]}: UTF-8 JSON of patch_id, crs (WKT or null),
            transform (6 numbers), height and width of the raster that says
            where the patch lies; predictions cut that ground by `output_size`
"""

import bisect
import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import operator
import os
import pathlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, SupportsIndex

import numpy as np
import safetensors
import safetensors.numpy
from array_record.python import array_record_module

from flairhub_jax import atomic, modalities
from flairhub_jax.data import description
from flairhub_jax.errors import InputError, InputErrors

SCHEMA_VERSION = 1
DATASET_FILE = "dataset.json"
PATCH = "PATCH"
DATES_FILE = "num_dates.safetensors"
SPLITS = ("train", "valid", "test")

# Labels shrink thirtyfold. Imagery shrinks by a tenth, and unpacking it would
# take four times as long as reading it.
_COMPRESSED = "group_size:1,zstd:1"
_UNCOMPRESSED = "group_size:1,uncompressed"

# Each open shard holds a file descriptor, each stream up to this many of them;
# opening one takes 0.15 ms.
_MAX_OPEN_SHARDS = 64


def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
  """Returns named arrays as one safetensors byte string."""
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
  path: pathlib.Path, stream: str
) -> Iterator[array_record_module.ArrayRecordWriter]:
  """Yields a writer (`write(bytes)`) of the shard `path`.

  The file gets its name when the block ends without an exception.
  """
  is_imagery = stream in modalities.MODALITIES
  options = _UNCOMPRESSED if is_imagery else _COMPRESSED
  with atomic.write_aside(path) as aside:
    writer = array_record_module.ArrayRecordWriter(str(aside), options)
    try:
      yield writer
    finally:
      writer.close()


@dataclasses.dataclass(frozen=True)
class Shard:
  """One file: its path below the data set's folder, its bytes and records."""

  file: str
  sha256: str
  bytes: int
  num_records: int


def describe_shard(folder: pathlib.Path, file: str, num_records: int) -> Shard:
  """Returns what `dataset.json` says of a finished shard."""
  with open(folder / file, "rb") as opened:
    digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Shard(file, digest, opened.tell(), num_records)


class Stream:
  """Random access to the records of one stream, over all its shards.

  Cheap to pickle; files are opened where and when they are read. Several
  threads may read at once.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModalityInfo:
  """What the data set holds of a modality.

  Attributes:
    shape: (h, w, c), or (None, h, w, c) for a series.
    dtype: type of the stored values.
    min_dates: fewest dates of a patch that has it; None for an image.
    max_dates: most dates of any patch; None for an image.
    has_snow_cloud: whether records hold "snow_cloud".
    statistics: band -> mean, std, min, max of the finite values of the
      training split (of all splits if there is none); None without values.
  """

  shape: tuple[int | None, ...]
  dtype: str
  min_dates: int | None
  max_dates: int | None
  has_snow_cloud: bool
  statistics: Mapping[str, Mapping[str, float | None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskInfo:
  """What the data set holds of a task: its labels' shape (h, w, n)."""

  shape: tuple[int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DateCounts:
  """How many dates the series of a split have, patch by patch.

  `shard` is a safetensors file of uint16 [num_patches]: `<series>`, all usable
  dates; `<series> clear`, those that pass `cloud_filter` (None: not counted).
  """

  shard: Shard
  cloud_filter: Mapping[str, float | str] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitInfo:
  """One split.

  Attributes:
    num_patches: its size.
    source: name of the CSV it was converted from.
    source_sha256: digest of the CSV, of the files' sizes and of the dates.
    streams: name -> shards, in order.
    absent: modality -> how many patches lack it.
    class_counts: task -> pixels of each class.
    num_dates: None where there is no series, or where the data set was
      converted before dates were counted.
  """

  num_patches: int
  source: str
  source_sha256: str
  streams: Mapping[str, tuple[Shard, ...]]
  absent: Mapping[str, int]
  class_counts: Mapping[str, tuple[int, ...]]
  num_dates: DateCounts | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """A converted data set.

  Attributes:
    folder: where `dataset.json` lies.
    fingerprint: sha256 of `dataset.json`, which has a digest of every shard.
    modalities: published id -> what is held of it.
    tasks: published id -> what is held of it.
    output_size: (h, w) of every prediction: those of the labels, or without
      any as many as labels of this ground would have.
    splits: `train`, `valid`, `test` -> split; those that exist.
  """

  folder: pathlib.Path
  fingerprint: str
  modalities: Mapping[str, ModalityInfo]
  tasks: Mapping[str, TaskInfo]
  output_size: tuple[int, int]
  splits: Mapping[str, SplitInfo]

  def open_stream(self, split: str, stream: str) -> Stream:
    """Returns random access to the records of a stream.

    Args:
      split: `train`, `valid` or `test`.
      stream: a modality, a task or `PATCH`.

    Raises:
      InputError: the data set has no such split or stream.
    """
    if split not in self.splits:
      raise InputError(
        self.folder, f"a split of {sorted(self.splits)}", repr(split)
      )
    streams = self.splits[split].streams
    if stream not in streams:
      raise InputError(
        f"{self.folder}, split {split}",
        f"one of {sorted(streams)}",
        repr(stream),
      )
    return Stream(self.folder, streams[stream])


def save_dataset(
  folder: pathlib.Path,
  modality_infos: Mapping[str, ModalityInfo],
  tasks: Mapping[str, TaskInfo],
  output_size: tuple[int, int],
  splits: Mapping[str, SplitInfo],
) -> Dataset:
  """Writes `dataset.json`, last of all files, and loads what was written."""

  def plain(infos: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dataclasses.asdict(info) for name, info in infos.items()}

  content = {
    "schema_version": SCHEMA_VERSION,
    "modalities": plain(modality_infos),
    "tasks": plain(tasks),
    "output_size": output_size,
    "splits": plain(splits),
  }
  text = json.dumps(content, indent=1, allow_nan=False) + "\n"
  atomic.write_text(folder / DATASET_FILE, text)
  return load_dataset(folder)


def load_dataset(folder: str | os.PathLike) -> Dataset:
  """Reads `dataset.json` and checks that every shard is there and whole.

  Args:
    folder: what `flairhub convert` wrote.

  Raises:
    InputError: not a converted data set, another version of it, or shards are
      missing or of another size.
  """
  folder = pathlib.Path(folder)
  path = folder / DATASET_FILE
  if not path.is_file():
    found = f"no {DATASET_FILE} in it" if folder.is_dir() else "no such folder"
    raise InputError(folder, "a folder made by `flairhub convert`", found)
  text = path.read_bytes()
  try:
    content = json.loads(text)
    version = content["schema_version"]
    if version != SCHEMA_VERSION:
      raise InputError(path, f"schema_version {SCHEMA_VERSION}", version)
    if problems := description.faults(content):
      raise InputErrors([f"{path}: {line}" for line in problems])
    dataset = _parse(folder, hashlib.sha256(text).hexdigest(), content)
  except InputError:
    raise
  except (ValueError, LookupError, TypeError, RecursionError) as error:
    raise InputError(
      path, "a description of a data set", repr(error)
    ) from error
  for split, info in dataset.splits.items():
    _check_shards(dataset.folder, split, info)
  return dataset


def _parse(
  folder: pathlib.Path, fingerprint: str, content: Mapping[str, Any]
) -> Dataset:
  modality_infos, task_infos, splits = {}, {}, {}
  for name, fields in content["modalities"].items():
    shape = tuple(fields["shape"])
    modality_infos[name] = ModalityInfo(**{**fields, "shape": shape})
  for name, fields in content["tasks"].items():
    task_infos[name] = TaskInfo(shape=tuple(fields["shape"]))
  for split, fields in content["splits"].items():
    streams = {
      stream: tuple(Shard(**shard) for shard in shards)
      for stream, shards in fields["streams"].items()
    }
    counts = {k: tuple(v) for k, v in fields["class_counts"].items()}
    parsed: dict[str, Any] = {"streams": streams, "class_counts": counts}
    if (dates := fields.get("num_dates")) is not None:
      shard = Shard(**dates["shard"])
      parsed["num_dates"] = DateCounts(**{**dates, "shard": shard})
    splits[split] = SplitInfo(**{**fields, **parsed})
  height, width = content["output_size"]
  return Dataset(
    folder=folder,
    fingerprint=fingerprint,
    modalities=modality_infos,
    tasks=task_infos,
    output_size=(height, width),
    splits=splits,
  )


def _check_shards(folder: pathlib.Path, split: str, info: SplitInfo) -> None:
  for stream, shards in info.streams.items():
    where = f"{folder / DATASET_FILE}, {split}, {stream}"
    names = [
      shard_name(split, stream, i, len(shards)) for i in range(len(shards))
    ]
    files = [shard.file for shard in shards]
    if files != names:
      raise InputError(where, f"the shards {names}", files)
    num_records = sum(shard.num_records for shard in shards)
    if num_records != info.num_patches:
      raise InputError(where, f"{info.num_patches} records", num_records)
    for shard in shards:
      _check_size(folder, shard)
  if info.num_dates is not None:
    expected, shard = f"{split}/{DATES_FILE}", info.num_dates.shard
    if shard.file != expected:
      raise InputError(folder / DATASET_FILE, expected, shard.file)
    _check_size(folder, shard)


def _check_size(folder: pathlib.Path, shard: Shard) -> None:
  path = folder / shard.file
  found = path.stat().st_size if path.is_file() else "no file"
  if found != shard.bytes:
    raise InputError(path, f"{shard.bytes} bytes", found)
