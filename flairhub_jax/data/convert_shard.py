"""The unit of work of a conversion: one shard of a split, for all its streams.

Each finished shard has a summary file, so that an interrupted conversion can
resume where it stopped.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flairhub_jax import atomic
from flairhub_jax.data import (
  convert_summary,
  patch_files,
  series_lengths,
  shard_files,
  time_series,
)
from flairhub_jax.errors import InputErrors
from flairhub_jax.schema import Schema

_ABSENT = {"absent": np.zeros(0, np.uint8)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardJob:
  """Job that writes one shard of a split.

  Attributes:
    folder: folder of the data set.
    summary_file: path of the summary.
    key: digest of everything that determines the result.
    split: `train`, `valid` or `test`.
    index: index of the shard.
    num_shards: number of shards of the split.
    streams: names of the split's streams.
    schema: of the data set.
    shapes: sensor or column of labels -> (h, w, c) of every patch.
    with_statistics: whether the statistics include this split.
    cloud_filter: filter with which clear dates are counted as well; None
      counts all dates only.
    patches: patches of the shard, in order.
  """

  folder: pathlib.Path
  summary_file: pathlib.Path
  key: str
  split: str
  index: int
  num_shards: int
  streams: tuple[str, ...]
  schema: Schema
  shapes: Mapping[str, patch_files.Shape]
  with_statistics: bool
  cloud_filter: time_series.CloudFilter | None
  patches: tuple[patch_files.PatchFiles, ...]

  def file(self, stream: str) -> str:
    """Returns the path of a stream's shard, relative to the folder."""
    return shard_files.shard_name(
      self.split, stream, self.index, self.num_shards
    )


@dataclasses.dataclass
class Faults:
  """Faults of the files of a shard, or of several in order.

  Attributes:
    problems: one line each.
    unknown: column of labels -> (band, value) -> number of pixels, number of
      patches, and id and file of the first patch, of values without a class.
  """

  problems: list[str] = dataclasses.field(default_factory=list)
  unknown: dict[str, dict[tuple[int, int], tuple[int, int, str]]] = (
    dataclasses.field(default_factory=dict)
  )

  def __bool__(self) -> bool:
    """Whether there is any fault."""
    return bool(self.problems or self.unknown)

  def __len__(self) -> int:
    """Number of lines."""
    return len(self.problems) + sum(map(len, self.unknown.values()))

  def add_values(
    self, column: str, values: Mapping[tuple[int, int], int], patch: str
  ) -> None:
    """Adds values without a class of one patch: (band, value) -> pixels."""
    self._merge(column, {key: (n, 1, patch) for key, n in values.items()})

  def add(self, other: "Faults") -> None:
    """Adds the faults of later patches."""
    self.problems += other.problems
    for column, values in other.unknown.items():
      self._merge(column, values)

  def _merge(
    self, column: str, values: Mapping[tuple[int, int], tuple[int, int, str]]
  ) -> None:
    known = self.unknown.setdefault(column, {})
    for key, (pixels, patches, first) in values.items():
      before = known.get(key, (0, 0, first))
      known[key] = (before[0] + pixels, before[1] + patches, before[2])


def write_shard(job: ShardJob, on_patches: Callable[[int], None]) -> Faults:
  """Writes a shard of every stream, then its summary.

  Args:
    job: what to write.
    on_patches: called with 1 after each patch; its exceptions stop the work.

  Returns:
    The faults of all patches. If there are any, no shard is written.
  """
  summary = convert_summary.Summary(job.with_statistics)
  dates = series_lengths.Counter(job.cloud_filter)
  faults = Faults()
  try:
    with contextlib.ExitStack() as stack:
      writers = {
        stream: stack.enter_context(
          shard_files.open_shard(
            job.folder / job.file(stream),
            is_imagery=stream in job.schema.sensors,
          )
        )
        for stream in job.streams
      }
      for patch in job.patches:
        content = patch_files.read_patch(patch, job.shapes, job.schema)
        arrays = content.arrays
        faults.problems += content.problems
        for column, values in content.unknown.items():
          first = f"{patch.patch_id} ({patch.files[column]})"
          faults.add_values(column, values, first)
        if not faults:
          summary.add(content, job.streams, job.schema)
          for stream, writer in writers.items():
            record = arrays.get(stream, _ABSENT)
            writer.write(shard_files.encode(record))
            sensor = job.schema.sensors.get(stream)
            if sensor is not None and sensor.is_series:
              dates.add(stream, record, sensor.quality_mask)
        on_patches(1)
      if faults:
        # An exception keeps the shards from being renamed to their final name.
        raise InputErrors(faults.problems)
  except InputErrors:
    return faults
  shards = {
    stream: shard_files.describe_shard(
      job.folder, job.file(stream), len(job.patches)
    )
    for stream in job.streams
  }
  result = {
    "key": job.key,
    "streams": {name: vars(shard) for name, shard in shards.items()},
    "counts_of_dates": dates.as_json(),
    **summary.as_json(),
  }
  atomic.write_text(job.summary_file, json.dumps(result))
  return faults


def read_summary(job: ShardJob) -> dict[str, Any] | None:
  """Returns the summary of a finished shard, or None if it is not finished."""
  try:
    content = json.loads(job.summary_file.read_bytes())
    files = [shard_files.Shard(**each) for each in content["streams"].values()]
    is_whole = content["key"] == job.key and all(
      (job.folder / shard.file).stat().st_size == shard.bytes for shard in files
    )
  except (OSError, ValueError, KeyError, TypeError):
    return None
  return content if is_whole else None
