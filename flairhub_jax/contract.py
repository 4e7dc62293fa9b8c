"""Contract of a run: what its network expects of rasters, and what it maps.

It is derived from the configuration of the run and, where its training data are
at hand, from them. The maps of a run carry it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from flairhub_jax import configuration
from flairhub_jax.data import records
from flairhub_jax.errors import InputError
from flairhub_jax.models import inputs
from flairhub_jax.schema import LabelTask, Sensor

# Name of the contract in the metadata of a map.
TAG = "FLAIRHUB_CONTRACT"
_VERSION = 1
# Patches whose dates are read.
_SAMPLE = 32
_HEIGHTS = ("metre", "metres", "meter", "meters", "m")
# Standard deviations that means may be from the training's.
_MOST_DEVIATIONS, _MOST_DEVIATIONS_OF_HEIGHTS = 2.5, 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
  """Of the training values of a stored band, in their unit.

  Attributes:
    mean: over all pixels.
    std: standard deviation.
    min: smallest value; None if unknown.
    max: largest value; None if unknown.
  """

  mean: float
  std: float
  min: float | None = None
  max: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channel:
  """A channel of the network's input: (value - mean) / std of a band.

  Attributes:
    band: a stored or derived band.
    difference: of a derived band, its minuend and subtrahend.
    mean: subtracted; 0 where values are not normalised.
    std: divisor; 1 where values are not normalised.
  """

  band: str
  difference: tuple[str, str] | None
  mean: float
  std: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
  """What a time series has beside an image.

  Attributes:
    num_dates: of the longest series of the training.
    reference_date: month and day from which days are counted.
    months: of the dates of the training, 1 to 12; None if unknown.
    quality_mask: bands of the optional quality mask, per date.
  """

  num_dates: int
  reference_date: str
  months: tuple[int, ...] | None
  quality_mask: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SensorContract:
  """Rasters of a sensor.

  Attributes:
    id: of the sensor.
    bands: names in file order; for a series, of each date.
    dtype: type of the stored values.
    unit: what a value measures.
    gsd: ground sampling distance, in metres.
    pixels: rows and columns of a window in training.
    no_data: value of missing measurements, besides those that a file declares.
    statistics: stored band -> of the training values, where known.
    channels: of the network's input, in order.
    series: None for an image.
  """

  id: str
  bands: tuple[str, ...]
  dtype: str
  unit: str
  gsd: float
  pixels: int
  no_data: float | None
  statistics: Mapping[str, Statistics]
  channels: tuple[Channel, ...]
  series: Series | None

  @property
  def is_height(self) -> bool:
    """Whether values are heights, which vary more than colours."""
    return self.unit.lower() in _HEIGHTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskContract:
  """Classes of a map.

  Attributes:
    id: of the task.
    title: for legends.
    gsd: of the labels of the training, in metres.
    classes: names by value.
    colours: `#rrggbb` by value.
  """

  id: str
  title: str
  gsd: float
  classes: tuple[str, ...]
  colours: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contract:
  """What a run expects, and what it maps.

  Attributes:
    sensors: id -> rasters, in the order of the schema.
    tasks: id -> classes.
  """

  sensors: Mapping[str, SensorContract]
  tasks: Mapping[str, TaskContract]

  def to_json(self) -> dict[str, Any]:
    """Nested lists and dictionaries of JSON."""
    return {
      "version": _VERSION,
      "sensors": [dataclasses.asdict(row) for row in self.sensors.values()],
      "tasks": [dataclasses.asdict(row) for row in self.tasks.values()],
    }


def build(config: Any, dataset: records.Dataset | None = None) -> Contract:
  """Derives the contract of a run.

  Args:
    config: configuration of the run.
    dataset: its training data; None: statistics are those of the
      configuration.
  """
  table = config.schema.sensors
  return Contract(
    sensors={
      spec.modality: _sensor(table[spec.modality], spec, config, dataset)
      for spec in inputs.build_inputs(config)
    },
    tasks={
      name: _task(task)
      for name, task in configuration.label_tasks(config).items()
    },
  )


def of_run(config: Any) -> Contract:
  """The contract of a run, with statistics of its training data if present."""
  return build(config, training_data(config))


def training_data(config: Any) -> records.Dataset | None:
  """The training data of a run, if they are still where they were."""
  if not config.data.path:
    return None
  try:
    dataset = records.load_dataset(config.data.path)
  except (InputError, OSError):
    return None
  return dataset if dataset.fingerprint == config.data.fingerprint else None


def deviations(
  row: SensorContract, means: Mapping[str, float]
) -> dict[str, float]:
  """Means of bands as standard deviations from those of the training."""
  return {
    band: (mean - row.statistics[band].mean) / row.statistics[band].std
    for band, mean in means.items()
    if band in row.statistics and row.statistics[band].std > 0
  }


def unlikely(row: SensorContract, means: Mapping[str, float]) -> list[str]:
  """A line if means of bands are far from those of the training, or none.

  Args:
    row: the sensor.
    means: stored band -> mean of other data.
  """
  limit = _MOST_DEVIATIONS_OF_HEIGHTS if row.is_height else _MOST_DEVIATIONS
  far = [
    f"{band} {number:+.1f}"
    for band, number in deviations(row, means).items()
    if abs(number) > limit
  ]
  if not far:
    return []
  return [
    f"means far from the training's, in its standard deviations:"
    f" {', '.join(far)}"
  ]


def unlikely_data(own: Contract, dataset: records.Dataset) -> list[str]:
  """Lines about the sensors of a data set that `unlikely` names."""
  lines = []
  for name, row in own.sensors.items():
    if name not in dataset.modalities:
      continue
    numbers = dataset.modalities[name].statistics
    means = {
      band: known["mean"]
      for band, known in numbers.items()
      if known["mean"] is not None
    }
    lines += [f"{name}: {line}" for line in unlikely(row, means)]
  return lines


def _sensor(sensor: Sensor, spec, config, dataset) -> SensorContract:
  pairs = {name: (first, second) for name, first, second in spec.derived_bands}
  mean = spec.mean or (0.0,) * len(spec.bands)
  std = spec.std or (1.0,) * len(spec.bands)
  channels = tuple(
    Channel(band=band, difference=pairs.get(band), mean=a, std=b)
    for band, a, b in zip(spec.bands, mean, std, strict=True)
  )
  return SensorContract(
    id=sensor.id,
    bands=sensor.bands,
    dtype=sensor.dtype,
    unit=sensor.unit,
    gsd=config.inputs[sensor.id].gsd,
    pixels=config.inputs[sensor.id].pixels,
    no_data=sensor.no_data,
    statistics=_statistics(sensor, config.inputs[sensor.id], dataset),
    channels=channels,
    series=_series(sensor, config, dataset) if sensor.is_series else None,
  )


def _statistics(sensor, settings, dataset) -> dict[str, Statistics]:
  """Of the training data, else those by which the run normalises."""
  known = {} if dataset is None else dataset.modalities
  if sensor.id in known:
    numbers = known[sensor.id].statistics
    return {
      band: Statistics(**numbers[band])  # type: ignore[arg-type]
      for band in sensor.bands
      if None not in numbers.get(band, {"mean": None}).values()
    }
  return {
    band: Statistics(mean=float(settings.mean[band]), std=settings.std[band])
    for band in sensor.bands
    if band in settings.mean and band in settings.std
  }


def _series(sensor, config, dataset) -> Series:
  mask = sensor.quality_mask
  return Series(
    num_dates=config.inputs[sensor.id].num_dates,
    reference_date=config.data.reference_date[-5:],
    months=None if dataset is None else _months(sensor.id, dataset),
    quality_mask=() if mask is None else mask.bands,
  )


def _months(name: str, dataset: records.Dataset) -> tuple[int, ...] | None:
  """Months of the dates of some patches of the training."""
  if "train" not in dataset.splits or name not in dataset.modalities:
    return None
  try:
    stream = dataset.open_stream("train", name)
    places = np.linspace(0, len(stream) - 1, min(_SAMPLE, len(stream)))
    days = [stream[i].get("dates", ()) for i in places.round().astype(int)]
  except InputError:
    return None
  dates = np.concatenate(days).astype("datetime64[D]")
  months = np.unique(dates.astype("datetime64[M]").astype(int) % 12 + 1)
  return tuple(map(int, months)) or None


def _task(task: LabelTask) -> TaskContract:
  return TaskContract(
    id=task.id,
    title=task.short_name,
    gsd=task.gsd,
    classes=task.class_names,
    colours=tuple(each.colour for each in task.classes),
  )
