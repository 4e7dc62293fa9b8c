"""The unit of a conversion: one shard of a split, in all its streams.

A finished shard leaves a summary beside the others of its conversion, so that
an interrupted conversion continues where it was.
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
  patch_files,
  records,
  series_lengths,
  time_series,
)
from flairhub_jax.errors import InputErrors
from flairhub_jax.labels import TASKS
from flairhub_jax.modalities import MODALITIES

_ABSENT = {"absent": np.zeros(0, np.uint8)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardJob:
  """What is needed to write one shard of a split.

  Attributes:
    folder: of the data set.
    summary_file: where the summary goes.
    key: digest of all that determines the result.
    split: `train`, `valid` or `test`.
    index: of the shard.
    num_shards: of the split.
    streams: names of the split's streams.
    shapes: modality or task -> (h, w, c) of every patch.
    with_statistics: whether this split counts for the statistics.
    cloud_filter: for which dates are counted; None counts only all dates.
    patches: in order.
  """

  folder: pathlib.Path
  summary_file: pathlib.Path
  key: str
  split: str
  index: int
  num_shards: int
  streams: tuple[str, ...]
  shapes: Mapping[str, patch_files.Shape]
  with_statistics: bool
  cloud_filter: time_series.CloudFilter | None
  patches: tuple[patch_files.PatchFiles, ...]

  def file(self, stream: str) -> str:
    """Returns the path of a stream's shard below the folder."""
    return records.shard_name(self.split, stream, self.index, self.num_shards)


def write_shard(job: ShardJob, on_patch: Callable[[], None]) -> list[str]:
  """Writes a shard of every stream, then its summary.

  Args:
    job: what to write.
    on_patch: called after each patch; an exception from it stops the work.

  Returns:
    The problems of all patches, a line each. With any, nothing is kept.
  """
  summary = Summary(job.with_statistics)
  dates = series_lengths.Counter(job.cloud_filter)
  problems: list[str] = []
  try:
    with contextlib.ExitStack() as stack:
      writers = {
        stream: stack.enter_context(
          records.open_shard(job.folder / job.file(stream), stream)
        )
        for stream in job.streams
      }
      for patch in job.patches:
        content = patch_files.read_patch(patch, job.shapes)
        arrays = content.arrays
        problems += content.problems
        if not problems:
          summary.add(content, job.streams)
          for stream, writer in writers.items():
            record = arrays.get(stream, _ABSENT)
            writer.write(records.encode(record))
            if stream in MODALITIES and MODALITIES[stream].is_series:
              dates.add(stream, record)
        on_patch()
      if problems:
        # Leaving the block this way gives no shard its name.
        raise InputErrors(problems)
  except InputErrors:
    return problems
  shards = {
    stream: records.describe_shard(
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
  return []


def read_summary(job: ShardJob) -> dict[str, Any] | None:
  """Returns the summary of a finished shard, or None if it is to be done."""
  try:
    content = json.loads(job.summary_file.read_bytes())
    files = [records.Shard(**each) for each in content["streams"].values()]
    is_whole = content["key"] == job.key and all(
      (job.folder / shard.file).stat().st_size == shard.bytes for shard in files
    )
  except (OSError, ValueError, KeyError, TypeError):
    return None
  return content if is_whole else None


class Summary:
  """Counts and sums over patches; those of shards add up to a split's."""

  def __init__(self, with_statistics: bool):
    """Starts empty; sums of pixel values only if `with_statistics`."""
    self._with_statistics = with_statistics
    self.absent: dict[str, int] = {}
    # Series -> fewest and most dates of a patch.
    self.num_dates: dict[str, tuple[int, int]] = {}
    self.class_counts: dict[str, np.ndarray] = {}
    self.statistics: dict[str, dict[str, np.ndarray]] = {}
    # Text -> number of files, sum of shares (None: of whole files), first file.
    self.notes: dict[str, tuple[int, float | None, str]] = {}

  def add(
    self, content: patch_files.PatchContent, streams: tuple[str, ...]
  ) -> None:
    """Adds what the files of a patch hold."""
    arrays = content.arrays
    for note in content.notes:
      self.add_note(note.text, 1, note.share, note.path)
    for name in streams:
      if name in TASKS:
        counts = _count_classes(name, arrays[name]["labels"])
        self.add_class_counts(name, counts)
      elif name in MODALITIES and name not in arrays:
        self.absent[name] = self.absent.get(name, 0) + 1
      elif name in MODALITIES:
        self._add_values(name, arrays[name], content.missing.get(name))

  def add_note(
    self, text: str, number: int, share: float | None, path: str
  ) -> None:
    """Adds a number of files of which the same is to be said."""
    if text in self.notes:
      known, sum_of_shares, path = self.notes[text]
      number += known
      share = None if share is None else share + sum_of_shares
    self.notes[text] = number, share, path

  def _add_values(
    self,
    name: str,
    arrays: Mapping[str, np.ndarray],
    missing: np.ndarray | None,
  ) -> None:
    if "dates" in arrays:
      num_dates = len(arrays["dates"])
      self.add_num_dates(name, num_dates, num_dates)
    if self._with_statistics:
      self.add_statistics(name, _sum_bands(arrays["values"], missing))

  def add_num_dates(self, name: str, fewest: int, most: int) -> None:
    """Takes the lengths of series."""
    known = self.num_dates.get(name, (fewest, most))
    self.num_dates[name] = (min(known[0], fewest), max(known[1], most))

  def add_class_counts(self, task: str, counts: np.ndarray) -> None:
    """Adds pixels of each class."""
    self.class_counts[task] = self.class_counts.get(task, 0) + counts

  def add_statistics(self, name: str, sums: Mapping[str, np.ndarray]) -> None:
    """Adds count, sum, sum_squares, min and max of each band."""
    if name not in self.statistics:
      self.statistics[name] = dict(sums)
      return
    total = self.statistics[name]
    for field in ("count", "sum", "sum_squares"):
      total[field] = total[field] + sums[field]
    total["min"] = np.fmin(total["min"], sums["min"])
    total["max"] = np.fmax(total["max"], sums["max"])

  def add_json(self, content: Mapping[str, Any]) -> None:
    """Adds what `as_json` of another summary returned."""
    for name, count in content["absent"].items():
      self.absent[name] = self.absent.get(name, 0) + count
    for name, (fewest, most) in content["num_dates"].items():
      self.add_num_dates(name, fewest, most)
    for text, note in content["notes"].items():
      self.add_note(text, *note)
    for task, counts in content["class_counts"].items():
      self.add_class_counts(task, np.array(counts))
    for name, sums in content["statistics"].items():
      self.add_statistics(
        name, {field: np.array(each, float) for field, each in sums.items()}
      )

  def as_json(self) -> dict[str, Any]:
    """Returns all of it as JSON can hold it, without loss."""
    return {
      "absent": self.absent,
      "notes": self.notes,
      "num_dates": self.num_dates,
      "class_counts": {
        task: counts.tolist() for task, counts in self.class_counts.items()
      },
      "statistics": {
        name: {field: each.tolist() for field, each in sums.items()}
        for name, sums in self.statistics.items()
      },
    }

  def band_statistics(self, name: str) -> dict[str, dict[str, float | None]]:
    """Returns band -> mean, std, min, max; None for a band without values."""
    bands = MODALITIES[name].bands
    sums = self.statistics.get(name)
    if sums is None:
      fields = dict.fromkeys(("mean", "std", "min", "max"))
      return {band: dict(fields) for band in bands}
    with np.errstate(invalid="ignore"):
      mean = sums["sum"] / sums["count"]
      variance = sums["sum_squares"] / sums["count"] - mean**2
    # Rounding can leave a constant band a little below zero.
    columns = {
      "mean": mean,
      "std": np.sqrt(np.maximum(variance, 0)),
      "min": sums["min"],
      "max": sums["max"],
    }
    return {
      band: {
        field: float(values[i]) if sums["count"][i] else None
        for field, values in columns.items()
      }
      for i, band in enumerate(bands)
    }


def _count_classes(task: str, values: np.ndarray) -> np.ndarray:
  labels = values[..., TASKS[task].band].ravel()
  num_classes = TASKS[task].num_classes
  # Labels without data are beyond the classes.
  return np.bincount(labels, minlength=num_classes)[:num_classes]


def _sum_bands(
  values: np.ndarray, missing: np.ndarray | None
) -> dict[str, np.ndarray]:
  """Returns float64 [c] sums over the finite values of [... c]."""
  num_bands = values.shape[-1]
  fields = ("count", "sum", "sum_squares", "min", "max")
  sums = {field: np.full(num_bands, np.nan) for field in fields}
  for i in range(num_bands):
    band = values[..., i].astype(np.float64).ravel()
    if missing is not None:
      band = band[~missing[..., i].ravel()]
    if np.issubdtype(values.dtype, np.floating):
      band = band[np.isfinite(band)]
    sums["count"][i] = band.size
    sums["sum"][i] = band.sum()
    sums["sum_squares"][i] = np.square(band).sum()
    if band.size:
      sums["min"][i], sums["max"][i] = band.min(), band.max()
  return sums
