"""A converted data set on disk: `dataset.json` and sharded ArrayRecord files.

A split holds one stream per sensor, one per column of labels and `PATCH`; all
streams of a split have the same patch order and the same shard boundaries. A
record is a safetensors byte string of named arrays:

  image     {"values": [h w c]}
  series    {"values": [t h w c], "dates": int32 [t] days since 1970-01-01},
            with a quality mask also "quality": uint8 [t h w m]
  absent    {"absent": uint8 [0]}: this patch lacks the sensor
  labels    {"labels": uint8 or uint16 [h w n]}, the values of the file
  PATCH     {"json": uint8 [n]}: UTF-8 JSON of patch_id, crs (WKT or null),
            transform (6 numbers), height and width of the georeferenced
            raster; predictions cover the same extent with `output_size` pixels

Version 1 of the format has no schema, which is FLAIR-HUB's, and names quality
"snow_cloud".
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flairhub_jax import atomic, schema_file
from flairhub_jax.data import description, label_values
from flairhub_jax.data.shard_files import Shard, Stream, shard_name
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import Schema
from flairhub_jax.schema_file import DATASET_FILE

SCHEMA_VERSION = 2
PATCH = "PATCH"
DATES_FILE = "num_dates.safetensors"
SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModalityInfo:
  """One sensor of the data set.

  Attributes:
    shape: (h, w, c), or (None, h, w, c) for a series.
    dtype: type of the stored values.
    min_dates: minimum number of dates of patches with it; None for an image.
    max_dates: maximum number of dates of a patch; None for an image.
    has_quality_mask: whether records hold "quality".
    statistics: band -> mean, std, min, max of the finite values of the
      training split (of all splits without one); None without values.
    gsd: width of the files' pixels in metres; None if it is not the same or
      unknown, as in files without a projected CRS.
  """

  shape: tuple[int | None, ...]
  dtype: str
  min_dates: int | None
  max_dates: int | None
  has_quality_mask: bool
  statistics: Mapping[str, Mapping[str, float | None]]
  gsd: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskInfo:
  """One task of the data set.

  Attributes:
    shape: (h, w, n) of the labels of its column.
    dtype: type of the stored values.
    no_data: stored value of pixels without data.
  """

  shape: tuple[int, int, int]
  dtype: str = "uint8"
  no_data: int = 255

  @property
  def storage(self) -> label_values.Storage:
    """Returns how records hold the labels."""
    return label_values.Storage(self.dtype, self.no_data)


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
    absent: sensor -> number of patches without it.
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
    schema: sensors and label tasks.
    version: of the format.
    modalities: sensors in the data by id.
    tasks: tasks whose labels are in the data by id.
    output_size: (h, w) of predictions: the size of the labels or, without
      labels, of the same extent at the GSD of labels.
    splits: `train`, `valid`, `test` -> split; existing ones only.
  """

  folder: pathlib.Path
  fingerprint: str
  schema: Schema
  version: int
  modalities: Mapping[str, ModalityInfo]
  tasks: Mapping[str, TaskInfo]
  output_size: tuple[int, int]
  splits: Mapping[str, SplitInfo]

  def open_stream(self, split: str, stream: str) -> Stream:
    """Returns random access to the records of a stream.

    Args:
      split: `train`, `valid` or `test`.
      stream: a sensor, a column of labels or `PATCH`.

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


def quality(record: Mapping[str, np.ndarray]) -> np.ndarray | None:
  """Returns the quality mask of a record of a series, if it has one."""
  return record.get("quality", record.get("snow_cloud"))


def task_infos(
  schema: Schema, shapes: Mapping[str, tuple[int, int, int]]
) -> dict[str, TaskInfo]:
  """Returns the tasks whose bands are in the data, by id.

  Args:
    schema: of the data set.
    shapes: column of labels -> (h, w, n); other names are ignored.
  """
  infos = {}
  for column, tasks in schema.label_columns.items():
    if column not in shapes:
      continue
    form = label_values.storage(tasks)
    for task in tasks:
      if task.band < shapes[column][2]:
        infos[task.id] = TaskInfo(
          shape=shapes[column], dtype=form.dtype, no_data=form.no_data
        )
  return infos


def save_dataset(
  folder: pathlib.Path,
  modality_infos: Mapping[str, ModalityInfo],
  tasks: Mapping[str, TaskInfo],
  output_size: tuple[int, int],
  splits: Mapping[str, SplitInfo],
  schema: Schema,
) -> Dataset:
  """Writes `dataset.json`, the last file, and loads the data set from it."""

  def plain(infos: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dataclasses.asdict(info) for name, info in infos.items()}

  content = {
    "schema_version": SCHEMA_VERSION,
    "schema": schema_file.to_json(schema),
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
    if version not in (1, SCHEMA_VERSION) or isinstance(version, bool):
      raise InputError(path, f"schema_version 1 or {SCHEMA_VERSION}", version)
    if version == 1:
      schema = FLAIR_HUB
    else:
      schema = schema_file.parse(content["schema"], where=f"{path}, schema")
    if problems := description.faults(content, schema):
      raise InputErrors([f"{path}: {line}" for line in problems])
    digest = hashlib.sha256(text).hexdigest()
    dataset = _parse(folder, digest, content, schema)
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
  folder: pathlib.Path,
  fingerprint: str,
  content: Mapping[str, Any],
  schema: Schema,
) -> Dataset:
  modality_infos, infos, splits = {}, {}, {}
  version = content["schema_version"]
  for name, fields in content["modalities"].items():
    info = {**fields, "shape": tuple(fields["shape"])}
    if version == 1:
      info["has_quality_mask"] = info.pop("has_snow_cloud")
    modality_infos[name] = ModalityInfo(**info)
  for name, fields in content["tasks"].items():
    infos[name] = TaskInfo(**{**fields, "shape": tuple(fields["shape"])})
  if version == 1:
    # Its tasks were columns; the files' other bands are tasks now.
    infos = task_infos(schema, {name: x.shape for name, x in infos.items()})
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
    schema=schema,
    version=version,
    modalities=modality_infos,
    tasks=infos,
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
