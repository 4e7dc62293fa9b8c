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
            transform (6 numbers), height and width of the georeferenced
            raster; predictions cover the same extent with `output_size` pixels
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from flairhub_jax import atomic
from flairhub_jax.data import description
from flairhub_jax.data.shard_files import Shard, Stream, shard_name
from flairhub_jax.errors import InputError, InputErrors

SCHEMA_VERSION = 1
DATASET_FILE = "dataset.json"
PATCH = "PATCH"
DATES_FILE = "num_dates.safetensors"
SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModalityInfo:
  """One modality of the data set.

  Attributes:
    shape: (h, w, c), or (None, h, w, c) for a series.
    dtype: type of the stored values.
    min_dates: minimum number of dates of patches with it; None for an image.
    max_dates: maximum number of dates of a patch; None for an image.
    has_snow_cloud: whether records hold "snow_cloud".
    statistics: band -> mean, std, min, max of the finite values of the
      training split (of all splits without one); None without values.
  """

  shape: tuple[int | None, ...]
  dtype: str
  min_dates: int | None
  max_dates: int | None
  has_snow_cloud: bool
  statistics: Mapping[str, Mapping[str, float | None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskInfo:
  """One task of the data set: the shape (h, w, n) of its labels."""

  shape: tuple[int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DateCounts:
  """Numbers of dates of the series of a split, per patch.

  `shard` is a safetensors file of uint16 [num_patches]: `<series>` counts all
  usable dates, `<series> clear` the dates passing `cloud_filter` (None: not
  counted).
  """

  shard: Shard
  cloud_filter: Mapping[str, float | str] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitInfo:
  """One split.

  Attributes:
    num_patches: number of patches.
    source: name of the source CSV.
    source_sha256: digest of the CSV, of the files' sizes and of the dates.
    streams: name -> shards, in order.
    absent: modality -> number of patches without it.
    class_counts: task -> number of pixels of each class.
    num_dates: None without series, or if the data set was converted by a
      version that did not count dates.
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
    folder: folder of `dataset.json`.
    fingerprint: sha256 of `dataset.json`, which has a digest of every shard.
    modalities: modalities by published id.
    tasks: tasks by published id.
    output_size: (h, w) of predictions: the size of the labels or, without
      labels, of the same extent at the GSD of labels.
    splits: `train`, `valid`, `test` -> split; existing ones only.
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
  """Writes `dataset.json`, the last file, and loads the data set from it."""

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
  """Reads `dataset.json`; checks the existence and size of every shard.

  Args:
    folder: output folder of `flairhub convert`.

  Raises:
    InputError: not a converted data set, one of another format version, or
      shards are missing or have another size.
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
