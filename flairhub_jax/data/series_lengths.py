"""Numbers of dates of the series of a split, and their padded lengths.

Conversion counts the dates of each patch, with and without the cloud filter, so
lengths are known before reading. Each batch uses one of a few choices of
lengths, common to all its series, since every choice needs its own compilation.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
from jaxtyping import UInt8, UInt16

from flairhub_jax import atomic, terminal
from flairhub_jax.data import (
  records,
  shard_files,
  temporal_average,
  time_series,
)
from flairhub_jax.errors import InputError
from flairhub_jax.schema import QualityMask

_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclasses.dataclass(frozen=True)
class Padding:
  """Lengths to which the series of a split are padded.

  Attributes:
    choices: ascending; each has a length per series; the last fits all series
      of the split.
    choice_of: per patch, the index of the first choice that fits its series.
  """

  choices: tuple[Mapping[str, int], ...]
  choice_of: UInt8[np.ndarray, "n"]

  @property
  def longest(self) -> Mapping[str, int]:
    """Returns the last choice."""
    return self.choices[-1]

  def of_batch(self, patches: Sequence[int]) -> Mapping[str, int]:
    """Returns the first choice that fits the series of all these patches."""
    return self.choices[self.choice_of[list(patches)].max(initial=0)]


def plan(
  dataset: records.Dataset,
  split: str,
  *,
  series: Sequence[str],
  buckets: Sequence[int],
  cloud_filter: time_series.CloudFilter | None,
  periods: Mapping[str, str],
) -> Padding:
  """Determines the padded lengths of a split, at most one choice per bucket.

  In the choice of a bucket, each series has the bucket's length, or the maximum
  length of this series in the split if that is shorter.

  Args:
    dataset: converted data set.
    split: name of the split.
    series: ids of the time series.
    buckets: lengths in dates; longer series are thinned to the largest.
    cloud_filter: filter of cloudy dates; None keeps all dates.
    periods: see `pipeline.ReadOptions`.
  """
  num_patches = dataset.splits[split].num_patches
  observed = [name for name in series if name not in periods]
  lengths = {}
  if observed:
    lengths = _count(dataset, split, observed, cloud_filter)
  for name, period in periods.items():
    number = 12 * len(temporal_average.PERIODS[period])
    lengths[name] = np.full(num_patches, number, np.uint16)
  return choose({name: lengths[name] for name in series}, num_patches, buckets)


def choose(
  lengths: Mapping[str, UInt16[np.ndarray, "n"]],
  num_patches: int,
  buckets: Sequence[int],
) -> Padding:
  """Determines the choices from the lengths of all series; see `plan`."""
  lengths = {n: np.minimum(x, max(buckets)) for n, x in lengths.items()}
  # A series without dates in every patch still gets one padded date.
  longest = {n: max(1, int(x.max(initial=0))) for n, x in lengths.items()}
  choices: list[dict[str, int]] = []
  for bucket in sorted(buckets):
    choice = {name: min(bucket, most) for name, most in longest.items()}
    if choice not in choices:
      choices.append(choice)
  fits = np.ones((len(choices), num_patches), bool)
  for number, choice in enumerate(choices):
    for name, length in choice.items():
      fits[number] &= lengths[name] <= length
  return Padding(tuple(choices), fits.argmax(0).astype(np.uint8))


def _count(dataset, split, series, cloud_filter):
  """Returns dates per patch, from the conversion, a cache or the records."""
  info = dataset.splits[split]
  counted = info.num_dates
  if counted is not None:
    arrays = _load(dataset.folder / counted.shard.file, counted.shard.sha256)
    known = {
      name: arrays[key]
      for name in series
      if (key := _key(name, dataset, cloud_filter, counted)) in arrays
    }
    if len(known) == len(series):
      return _checked(known, info.num_patches, dataset, counted.shard.file)
  return _count_records(dataset, split, series, cloud_filter)


def _key(name, dataset, cloud_filter, counted):
  """Returns the key of a filter's counts in the conversion's file, or None."""
  if cloud_filter is None or not dataset.modalities[name].has_quality_mask:
    return name
  if dataclasses.asdict(cloud_filter) == dict(counted.cloud_filter or {}):
    return f"{name} clear"
  return None


def _checked(known, num_patches, dataset, file):
  for name, counts in known.items():
    if counts.shape != (num_patches,) or counts.dtype != np.uint16:
      raise InputError(
        f"{dataset.folder / file}, {name}",
        f"{num_patches} numbers of uint16",
        f"{counts.shape} of {counts.dtype}",
      )
  return known


def _load(path: pathlib.Path, sha256: str) -> dict[str, np.ndarray]:
  try:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
      raise InputError(path, f"sha256 {sha256}", digest)
    return shard_files.decode(content)
  except (OSError, safetensors.SafetensorError) as error:
    raise InputError(path, "counts of dates", error) from error


def _count_records(dataset, split, series, cloud_filter):
  """Counts dates and caches the result beside the records if possible."""
  shards = {
    name: [shard.sha256 for shard in dataset.splits[split].streams[name]]
    for name in series
  }
  thresholds = cloud_filter and dataclasses.asdict(cloud_filter)
  key = hashlib.sha256(json.dumps([shards, thresholds]).encode()).hexdigest()
  cache = dataset.folder / split / f"num_dates-{key[:16]}.safetensors"
  if counts := _read_cache(cache, key):
    return counts
  for name in series:
    stream = dataset.open_stream(split, name)
    mask = dataset.schema.sensors[name].quality_mask
    numbers = terminal.progress_bar(
      range(len(stream)), desc=f"count dates of {name}, {split}", unit="patch"
    )
    counts[name] = np.array(
      [count_dates(stream[i], cloud_filter, mask) for i in numbers],
      np.uint16,
    )
  content = shard_files.encode(counts)
  try:
    with atomic.write_aside(cache) as aside:
      aside.write_bytes(_digest(key, content) + content)
  except OSError as error:
    terminal.print_line(
      f"{cache} cannot be written ({error.strerror}): the dates will be counted"
      " again at the next start"
    )
  return counts


def _read_cache(path, key):
  """Returns cached counts; {} if the file is missing or damaged."""
  try:
    content = path.read_bytes()
  except OSError:
    return {}
  digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
  return shard_files.decode(content) if digest == _digest(key, content) else {}


def _digest(key, content):
  return hashlib.sha256(key.encode() + content).digest()


def count_dates(
  record: Mapping[str, np.ndarray],
  cloud_filter: time_series.CloudFilter | None,
  mask: QualityMask | None = None,
) -> int:
  """Returns the number of usable dates of a record; 0 without the series."""
  if "values" not in record:
    return 0
  date_mask = time_series.choose_dates(
    record["values"], records.quality(record), mask, cloud_filter
  )
  return int(date_mask.sum())


class Counter:
  """Counter of the dates of patches during conversion."""

  def __init__(self, cloud_filter: time_series.CloudFilter | None):
    """Starts empty; also counts dates passing the filter, unless it is None."""
    self._cloud_filter = cloud_filter
    self._counts: dict[str, list[int]] = {}

  def add(
    self, name: str, record: Mapping[str, Any], mask: QualityMask | None
  ) -> None:
    """Adds the series of the next patch, and its quality mask."""
    self._counts.setdefault(name, []).append(count_dates(record, None))
    if self._cloud_filter is not None:
      number = count_dates(record, self._cloud_filter, mask)
      self._counts.setdefault(f"{name} clear", []).append(number)

  def as_json(self) -> dict[str, list[int]]:
    """Returns counts by series, and by series with the filter."""
    return self._counts


def save(
  folder: pathlib.Path,
  split: str,
  counts: Sequence[Mapping[str, Sequence[int]]],
  cloud_filter: time_series.CloudFilter | None,
) -> records.DateCounts | None:
  """Writes the counts of a split's shards, in order.

  Returns:
    Their entry in `dataset.json`; None if the split has no series.
  """
  joined = {}
  for name in counts[0]:
    numbers = [number for shard in counts for number in shard[name]]
    joined[name] = np.array(numbers, np.uint16)
  if not joined:
    return None
  file = f"{split}/{records.DATES_FILE}"
  with atomic.write_aside(folder / file) as aside:
    aside.write_bytes(shard_files.encode(joined))
  num_patches = len(next(iter(joined.values())))
  return records.DateCounts(
    shard=shard_files.describe_shard(folder, file, num_patches),
    cloud_filter=None
    if cloud_filter is None
    else dataclasses.asdict(cloud_filter),
  )
