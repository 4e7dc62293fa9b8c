"""From records to batches: read, select dates, pad, augment, batch.

A batch depends only on the seed and its index, not on the number of reading
processes or on where a run was interrupted.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, SupportsIndex

import grain
import numpy as np

from flairhub_jax import configuration
from flairhub_jax.data import (
  label_reader,
  patch,
  read_ahead,
  records,
  series_lengths,
  temporal_average,
  time_series,
)
from flairhub_jax.errors import InputError
from flairhub_jax.schema import LabelTask, Sensor

Augment = Callable[[Mapping[str, Any], np.random.Generator], dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
  """Sensors and tasks to read, and the treatment of dates.

  Attributes:
    modalities: ids of the sensors.
    tasks: by id, perhaps with merged classes; empty for prediction.
    reference_date: month-day from which dates are counted.
    date_buckets: see `series_lengths.plan`.
    cloud_filter: filter of cloudy dates; None keeps all dates.
    periods: series -> one of `temporal_average.PERIODS`; series without an
      entry are not averaged.
    averaging: one of `temporal_average.RULES`.
  """

  modalities: tuple[str, ...]
  tasks: Mapping[str, LabelTask]
  reference_date: str
  date_buckets: tuple[int, ...]
  cloud_filter: time_series.CloudFilter | None
  periods: Mapping[str, str]
  averaging: str


def build_read_options(config: Any, *, with_labels: bool = True) -> ReadOptions:
  """Builds the options from a configuration (configs/base.py).

  Raises:
    InputError: an unknown rule or task, see `configuration.label_tasks`.
  """
  data = config.data
  if data.averaging not in temporal_average.RULES:
    raise InputError(
      "config.data.averaging",
      " or ".join(temporal_average.RULES),
      repr(data.averaging),
    )
  return ReadOptions(
    modalities=tuple(data.modalities),
    tasks=configuration.label_tasks(config) if with_labels else {},
    reference_date=data.reference_date,
    date_buckets=tuple(data.date_buckets),
    cloud_filter=build_cloud_filter(data.cloud_filter),
    periods=_periods(config),
    averaging=data.averaging,
  )


def build_cloud_filter(settings: Any) -> time_series.CloudFilter | None:
  """Builds the filter of `config.data.cloud_filter`; None if disabled."""
  thresholds = dict(settings)
  enabled = thresholds.pop("enabled")
  if thresholds["fallback"] not in ("least_covered", "snow_free"):
    raise InputError(
      "config.data.cloud_filter.fallback",
      "least_covered or snow_free",
      thresholds["fallback"],
    )
  return time_series.CloudFilter(**thresholds) if enabled else None


def _periods(config: Any) -> dict[str, str]:
  """Returns the averaged series and their periods."""
  periods, sensors = {}, config.schema.sensors
  for name in config.data.modalities:
    if name not in sensors or not sensors[name].is_series:
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

  An example is a batch without its leading axis and without padded series.

  Attributes:
    padding: lengths to which the series of a batch are padded.
  """

  def __init__(
    self, dataset: records.Dataset, split: str, options: ReadOptions
  ):
    """Checks that `dataset` has everything requested in `options`.

    Raises:
      InputError: a split, sensor or task is missing.
    """
    if split not in dataset.splits:
      raise InputError(
        dataset.folder, f"a split of {sorted(dataset.splits)}", repr(split)
      )
    streams = dataset.splits[split].streams
    sensors = [name for name in dataset.modalities if name in streams]
    tasks = [
      name
      for name in dataset.tasks
      if dataset.schema.tasks[name].stream in streams
    ]
    for field, names, available in (
      ("modalities", options.modalities, sensors),
      ("tasks", options.tasks, tasks),
    ):
      for name in names:
        if name not in available:
          raise InputError(
            f"config.data.{field}",
            f"one that split {split} of {dataset.folder} has"
            f" ({', '.join(available) or 'none'})",
            repr(name),
          )
    self._dataset = dataset
    self._split = split
    self._options = options
    self._sensors: Mapping[str, Sensor] = dataset.schema.sensors
    self._streams = {
      name: dataset.open_stream(split, name) for name in options.modalities
    }
    self._labels = label_reader.LabelReader(dataset, split, options.tasks)
    self.padding = series_lengths.plan(
      dataset,
      split,
      series=[m for m in options.modalities if self._sensors[m].is_series],
      buckets=options.date_buckets,
      cloud_filter=options.cloud_filter,
      periods=options.periods,
    )

  def __len__(self) -> int:
    """Number of patches."""
    return self._dataset.splits[self._split].num_patches

  def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
    """Reads one patch.

    Raises:
      InputError: a shard is damaged, or a label stands for no class.
    """
    example: dict[str, Any] = {
      "inputs": {},
      "dates": {},
      "valid": {},
      "present": {},
      "labels": {},
      "patch": np.int32(index),
      "sample_mask": np.True_,
    }
    for name in self._options.modalities:
      self._read_modality(name, int(index), example)
    example["labels"] = self._labels[int(index)]
    return example

  def _read_modality(self, name: str, index: int, example: dict) -> None:
    record = self._streams[name][index]
    info, options = self._dataset.modalities[name], self._options
    example["present"][name] = np.bool_("values" in record)
    is_series = info.shape[0] is None
    shape = (0, *info.shape[1:]) if is_series else info.shape
    values = record.get("values", np.zeros(shape, info.dtype))
    if not is_series:
      example["inputs"][name] = patch.prepare_image(values)
      return
    values, days, valid = patch.prepare_series(
      values,
      record.get("dates", np.zeros(0, np.int32)),
      records.quality(record),
      quality_mask=self._sensors[name].quality_mask,
      reference_date=options.reference_date,
      averaging=options.averaging,
      cloud_filter=options.cloud_filter,
      period=options.periods.get(name),
    )
    example["inputs"][name] = values
    example["dates"][name] = days
    example["valid"][name] = valid


def stack(
  examples: Sequence[Mapping[str, Any]], lengths: Mapping[str, int]
) -> dict[str, Any]:
  """Stacks examples; thins or pads each series to its number of dates."""

  def stack_field(key, name):
    values = [example[key][name] for example in examples]
    if key in ("inputs", "dates", "valid") and name in lengths:
      values = [patch.fit_length(x, lengths[name]) for x in values]
    return np.stack(values)

  batch: dict[str, Any] = {
    key: np.stack([example[key] for example in examples])
    for key in ("patch", "sample_mask")
  }
  for key in ("inputs", "dates", "valid", "present", "labels"):
    batch[key] = {name: stack_field(key, name) for name in examples[0][key]}
  return batch


@dataclasses.dataclass(frozen=True)
class _Filled:
  """Patches in order, filled up to `length` with masked copies of the last."""

  reader: PatchReader
  patches: Sequence[int]
  length: int

  def __len__(self) -> int:
    return self.length

  def number(self, index: int) -> int:
    """Returns the index of the patch at a position."""
    return self.patches[min(index, len(self.patches) - 1)]

  def __getitem__(self, index: int) -> dict[str, Any]:
    example = self.reader[self.number(index)]
    return {**example, "sample_mask": np.bool_(index < len(self.patches))}


@dataclasses.dataclass(frozen=True)
class _Stacker:
  """Stacks this process's part of a batch, padded for the whole batch.

  The order alone determines the patches of the other processes, so all
  processes pad to the same lengths and run the same program.
  """

  order: Sequence[int] | grain.MapDataset
  padding: series_lengths.Padding
  global_batch_size: int

  def __call__(self, number: int, examples: Sequence[Mapping[str, Any]]):
    places = range(
      number * self.global_batch_size, (number + 1) * self.global_batch_size
    )
    patches = [int(self.order[place]) for place in places]
    return stack(examples, self.padding.of_batch(patches))


def _own_part(
  dataset: grain.MapDataset,
  order: Sequence[int] | grain.MapDataset,
  padding: series_lengths.Padding,
  batch_size: int,
  process: tuple[int, int],
) -> grain.MapDataset:
  """Selects this process's part of every batch, in single-process order."""
  parts = dataset.batch(batch_size, drop_remainder=True, batch_fn=list)
  own = parts[process[0] :: process[1]]
  return own.map_with_index(_Stacker(order, padding, batch_size * process[1]))


def train_batches(
  reader: PatchReader,
  *,
  batch_size: int,
  seed: int,
  augment: Augment | None = None,
  start_step: int = 0,
  num_workers: int = 0,
  process: tuple[int, int] = (0, 1),
) -> Generator[dict[str, Any], None, None]:
  """Yields batches indefinitely, starting with the batch of `start_step`.

  Every epoch is shuffled anew; a batch may span two epochs, so no patch is
  dropped.

  Args:
    reader: the split.
    batch_size: patches of this process's part of a batch.
    seed: seed of the order and the augmentation.
    augment: `(example, rng) -> example`; draws of a patch depend on the seed
      and its place in the order only. None: no augmentation.
    start_step: number of batches to skip.
    num_workers: reading processes; 0 reads in threads.
    process: index of this process, and number of processes.
  """

  def shuffled(source):
    return grain.MapDataset.source(source).shuffle(seed=seed).repeat(None)

  dataset, order = shuffled(reader), shuffled(range(len(reader)))
  if augment is not None:
    dataset = dataset.random_map(augment, seed=seed + 1)
  parts = _own_part(dataset, order, reader.padding, batch_size, process)
  return read_ahead.iterate(parts[start_step:], num_workers)


def num_evaluation_batches(num_patches: int, global_batch_size: int) -> int:
  """Returns the number of batches that hold every patch once."""
  return math.ceil(num_patches / global_batch_size)


def evaluation_batches(
  reader: PatchReader,
  *,
  batch_size: int,
  patches: Sequence[int] | None = None,
  num_workers: int = 0,
  process: tuple[int, int] = (0, 1),
) -> Generator[dict[str, Any], None, None]:
  """Yields every patch once, in order; `sample_mask` is False for filling.

  Args:
    reader: the split.
    batch_size: patches of this process's part of a batch.
    patches: indices of the patches; None: all.
    num_workers: reading processes; 0 reads in threads.
    process: index of this process, and number of processes.
  """
  patches = range(len(reader)) if patches is None else patches
  total = batch_size * process[1]
  length = total * num_evaluation_batches(len(patches), total)
  filled = _Filled(reader, patches, length)
  order = [filled.number(place) for place in range(length)]
  dataset = grain.MapDataset.source(filled)
  parts = _own_part(dataset, order, reader.padding, batch_size, process)
  return read_ahead.iterate(parts, num_workers)


def example_batch(reader: PatchReader) -> dict[str, Any]:
  """Returns a batch of one patch, its series padded to the maximum length."""
  return stack([reader[0]], reader.padding.longest)


class PatchTable:
  """Ids and georeferences of the patches of a split, read on demand."""

  def __init__(self, dataset: records.Dataset, split: str):
    """Opens the PATCH stream of `split`."""
    self._stream = dataset.open_stream(split, "PATCH")

  def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
    """Returns patch_id, crs, transform, height and width of a patch."""
    return json.loads(bytes(self._stream[int(index)]["json"]))
