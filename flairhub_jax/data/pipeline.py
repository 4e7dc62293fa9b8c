"""From records to batches: read, choose dates, pad, augment, batch.

A batch is a function of the seed and of its number alone: neither the number
of reading processes nor where a run was interrupted changes it.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from flairhub_jax import labels
from flairhub_jax.data import (
  records,
  temporal_average,
  time_series,
  transforms,
)
from flairhub_jax.errors import InputError
from flairhub_jax.modalities import MODALITIES


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloudFilter:
  """Thresholds of `time_series.select_clear_dates`."""

  max_cloud: float
  max_snow: float
  max_cover: float
  fallback: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
  """What is read of each patch, and how its dates are treated.

  Attributes:
    modalities: published ids.
    tasks: published ids of the labels; empty for prediction.
    reference_date: month-day from which dates are counted.
    date_buckets: lengths to which series are padded.
    cloud_filter: None keeps all dates.
    periods: series -> `temporal_average.PERIODS`; absent: not averaged.
    averaging: one of `temporal_average.RULES`.
  """

  modalities: tuple[str, ...]
  tasks: tuple[str, ...]
  reference_date: str
  date_buckets: tuple[int, ...]
  cloud_filter: CloudFilter | None
  periods: Mapping[str, str]
  averaging: str


def build_reading(config: Any, *, with_labels: bool = True) -> Reading:
  """Builds the settings from a configuration (configs/base.py)."""
  data = config.data
  thresholds = dict(data.cloud_filter)
  enabled = thresholds.pop("enabled")
  if thresholds["fallback"] not in ("least_covered", "snow_free"):
    raise InputError(
      "config.data.cloud_filter.fallback",
      "least_covered or snow_free",
      thresholds["fallback"],
    )
  if data.averaging not in temporal_average.RULES:
    raise InputError(
      "config.data.averaging",
      " or ".join(temporal_average.RULES),
      repr(data.averaging),
    )
  return Reading(
    modalities=tuple(data.modalities),
    tasks=tuple(data.tasks) if with_labels else (),
    reference_date=data.reference_date,
    date_buckets=tuple(data.date_buckets),
    cloud_filter=CloudFilter(**thresholds) if enabled else None,
    periods=_periods(config),
    averaging=data.averaging,
  )


def _periods(config: Any) -> dict[str, str]:
  """The series that are averaged, and over what."""
  periods = {}
  for name in config.data.modalities:
    if name not in MODALITIES or not MODALITIES[name].is_series:
      continue
    period = config.inputs[name].temporal_average
    if period in temporal_average.PERIODS:
      periods[name] = period
    elif period != "none":
      raise InputError(
        f"config.inputs.{name}.temporal_average",
        f"none, {' or '.join(temporal_average.PERIODS)}",
        repr(period),
      )
  return periods


class PatchReader:
  """Random access to the patches of a split, as examples.

  An example is a batch (see DESIGN.md) without its leading axis; series still
  have their own number of dates.
  """

  def __init__(self, dataset: records.Dataset, split: str, reading: Reading):
    """Checks that `dataset` holds what `reading` asks for.

    Raises:
      InputError: a split, modality, task or cloud mask is not there.
    """
    if split not in dataset.splits:
      raise InputError(
        dataset.folder, f"a split of {sorted(dataset.splits)}", repr(split)
      )
    streams = dataset.splits[split].streams
    for name in reading.modalities + reading.tasks:
      if name not in streams:
        held = sorted(set(streams) - {"PATCH"})
        raise InputError(
          f"{dataset.folder}, split {split}", f"one of {held}", repr(name)
        )
    self._dataset = dataset
    self._split = split
    self._reading = reading
    self._streams = {
      name: dataset.open_stream(split, name)
      for name in reading.modalities + reading.tasks
    }

  def __len__(self) -> int:
    """Number of patches."""
    return self._dataset.splits[self._split].num_patches

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Reads one patch."""
    example: dict[str, Any] = {
      "inputs": {},
      "dates": {},
      "valid": {},
      "present": {},
      "labels": {},
      "patch": np.int32(index),
      "counted": np.True_,
    }
    for name in self._reading.modalities:
      self._read_modality(name, int(index), example)
    for name in self._reading.tasks:
      values = self._streams[name][int(index)]["labels"]
      example["labels"][name] = values[..., labels.TASKS[name].band]
    return example

  def _read_modality(self, name: str, index: int, example: dict) -> None:
    record = self._streams[name][index]
    info = self._dataset.modalities[name]
    is_present = "values" in record
    example["present"][name] = np.bool_(is_present)
    if info.shape[0] is not None:
      image = record.get("values", np.zeros(info.shape, info.dtype))
      if np.issubdtype(image.dtype, np.floating):
        image = time_series.fill_missing_pixels(image[None])[0][0]
      example["inputs"][name] = image
      return
    if is_present:
      values, dates = self._choose_dates(record)
    else:
      values = np.zeros((0, *info.shape[1:]), info.dtype)
      dates = np.zeros(0, np.int32)
    reference_date = self._reading.reference_date
    if name in self._reading.periods:
      values, days, valid = temporal_average.average_periods(
        values,
        dates,
        period=self._reading.periods[name],
        rule=self._reading.averaging,
        reference_date=reference_date,
      )
    else:
      days = time_series.days_from_reference(dates, reference_date)
      valid = np.ones(len(dates), bool)
    example["inputs"][name] = values
    example["dates"][name] = days
    example["valid"][name] = valid

  def _choose_dates(
    self, record: Mapping[str, np.ndarray]
  ) -> tuple[np.ndarray, np.ndarray]:
    values, dates = record["values"], record["dates"]
    thresholds = self._reading.cloud_filter
    if thresholds and "snow_cloud" in record:
      kept = time_series.select_clear_dates(
        record["snow_cloud"], **dataclasses.asdict(thresholds)
      )
      values, dates = values[kept], dates[kept]
    if np.issubdtype(values.dtype, np.floating):
      values, usable = time_series.fill_missing_pixels(values)
      values, dates = values[usable], dates[usable]
    return values, dates


@dataclasses.dataclass(frozen=True)
class BatchStacker:
  """Stacks examples; series are thinned and padded to a bucket length."""

  date_buckets: tuple[int, ...]

  def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the batch of `examples`, in their order."""
    batch: dict[str, Any] = {
      key: np.stack([example[key] for example in examples])
      for key in ("patch", "counted")
    }
    for key in ("inputs", "dates", "valid", "present", "labels"):
      batch[key] = {
        name: self._stack(key, name, examples) for name in examples[0][key]
      }
    return batch

  def _stack(
    self, key: str, name: str, examples: Sequence[Mapping[str, Any]]
  ) -> np.ndarray:
    values = [example[key][name] for example in examples]
    if key in ("labels", "present") or name not in examples[0]["dates"]:
      return np.stack(values)
    length = time_series.bucket_length(
      max(len(series) for series in values), self.date_buckets
    )
    return np.stack(
      [
        time_series.pad_dates(
          series[time_series.thin(len(series), length)], length
        )
        for series in values
      ]
    )


@dataclasses.dataclass(frozen=True)
class _Filled:
  """Some patches in order, then the last again, not counted, to `length`."""

  reader: PatchReader
  patches: Sequence[int]
  length: int

  def __len__(self) -> int:
    return self.length

  def __getitem__(self, index: int) -> dict[str, Any]:
    last = len(self.patches) - 1
    example = self.reader[self.patches[min(index, last)]]
    return {**example, "counted": np.bool_(index <= last)}


def _share(
  dataset: grain.MapDataset,
  reading: Reading,
  batch_size: int,
  process: tuple[int, int],
) -> grain.MapDataset:
  """This process's part of every batch, in the order of one process alone."""
  buckets = reading.date_buckets
  if process[1] > 1:
    # All run the same program, and none knows the others' series.
    buckets = (max(buckets),)
  parts = dataset.batch(
    batch_size, drop_remainder=True, batch_fn=BatchStacker(buckets)
  )
  return parts[process[0] :: process[1]]


def _iterate(
  batches: grain.MapDataset, num_workers: int
) -> Iterator[dict[str, Any]]:
  """Yields the batches in order, read ahead by threads or processes."""
  if num_workers and not flags.FLAGS.is_parsed():
    # Worker processes are handed the flags, parsed or not.
    flags.FLAGS.mark_as_parsed()
  iterator = iter(_read_ahead(batches, num_workers))
  try:
    yield from iterator
  finally:
    iterator.close()


def _read_ahead(
  batches: grain.MapDataset, num_workers: int
) -> grain.IterDataset:
  # Both are counted in batches, which are large.
  options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
  dataset = batches.to_iter_dataset(options)
  if num_workers == 0:
    return dataset
  return dataset.mp_prefetch(
    grain.MultiprocessingOptions(
      num_workers=num_workers, per_worker_buffer_size=2
    )
  )


def train_batches(
  reader: PatchReader,
  reading: Reading,
  *,
  batch_size: int,
  seed: int,
  augment: bool,
  start_step: int = 0,
  num_workers: int = 0,
  process: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, Any]]:
  """Yields batches without end; the first is that of `start_step`.

  Every pass over the split is shuffled anew; a batch may span two passes, so
  no patch is left out.

  Args:
    reader: the split.
    reading: date buckets.
    batch_size: patches of this process's share of a batch.
    seed: of order and augmentation.
    augment: whether patches are flipped and turned.
    start_step: number of batches already used.
    num_workers: reading processes; 0 reads in threads.
    process: index of this process, and how many there are.
  """
  dataset = grain.MapDataset.source(reader).shuffle(seed=seed).repeat(None)
  if augment:
    dataset = dataset.random_map(transforms.augment, seed=seed + 1)
  shares = _share(dataset, reading, batch_size, process)
  return _iterate(shares[start_step:], num_workers)


def num_evaluation_batches(num_patches: int, global_batch_size: int) -> int:
  """Returns how many batches hold every patch once."""
  return math.ceil(num_patches / global_batch_size)


def evaluation_batches(
  reader: PatchReader,
  reading: Reading,
  *,
  batch_size: int,
  patches: Sequence[int] | None = None,
  start_batch: int = 0,
  num_workers: int = 0,
  process: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, Any]]:
  """Yields patches once, in order; `counted` is False for the filling.

  Args:
    reader: the split.
    reading: date buckets.
    batch_size: patches of this process's share of a batch.
    patches: numbers of the patches wanted; None: all.
    start_batch: number of batches already used.
    num_workers: reading processes; 0 reads in threads.
    process: index of this process, and how many there are.
  """
  patches = range(len(reader)) if patches is None else patches
  total = batch_size * process[1]
  length = total * num_evaluation_batches(len(patches), total)
  dataset = grain.MapDataset.source(_Filled(reader, patches, length))
  shares = _share(dataset, reading, batch_size, process)
  return _iterate(shares[start_batch:], num_workers)


def example_batch(reader: PatchReader, reading: Reading) -> dict[str, Any]:
  """Returns one patch as a batch: a network's shapes depend on its sizes."""
  batches = evaluation_batches(reader, reading, batch_size=1)
  batch = next(batches)
  batches.close()
  return batch


class PatchTable:
  """Ids and places of the patches of a split, read on demand."""

  def __init__(self, dataset: records.Dataset, split: str):
    """Opens the PATCH stream of `split`."""
    self._stream = dataset.open_stream(split, "PATCH")

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Returns patch_id, crs, transform, height and width of a patch."""
    return json.loads(bytes(self._stream[int(index)]["json"]))
