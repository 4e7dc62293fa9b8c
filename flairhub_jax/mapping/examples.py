"""Windows of a map as examples of a network."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from flairhub_jax.data import (
  patch,
  pipeline,
  rasters,
  temporal_average,
  validity,
)
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping.grid import Grid
from flairhub_jax.mapping.inputs import SensorInput, read_part
from flairhub_jax.mapping.layout import Layout

# A sensor with data for a smaller share of a window counts as absent, if the
# share of another one is larger.
_LEAST_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Window:
  """Inputs of a network for one window.

  Attributes:
    row: its number along the rows.
    column: its number along the columns.
    example: `inputs`, `dates`, `valid` and `present` of each sensor.
    has_data: bool [h w], pixels of the map for which any sensor has data.
    absent_sensors: ids of the sensors that count as absent.
  """

  row: int
  column: int
  example: Mapping[str, Any]
  has_data: Bool[np.ndarray, "h w"]
  absent_sensors: tuple[str, ...]


class Reader:
  """Reads the windows of a map as examples of a network.

  Attributes:
    pixels: sensor -> rows and columns of its pixels in a window.
    lengths: series -> number of dates to which it is padded.
  """

  def __init__(
    self, config: Any, inputs: Mapping[str, SensorInput], layout: Layout
  ):
    """Sets the sizes of the inputs.

    Args:
      config: of the run.
      inputs: rasters of some or all sensors of the network.
      layout: of the map.
    """
    self._inputs, self._layout = inputs, layout
    self._options = pipeline.build_read_options(config, with_labels=False)
    sensors = config.schema.sensors
    self._sensors = [
      sensors[name] for name in sensors if name in config.data.modalities
    ]
    max_length = max(config.data.date_buckets)
    self.lengths = {
      s.id: self._length(s.id, max_length) for s in self._sensors if s.is_series
    }
    self.pixels = {
      s.id: layout.pixels.get(s.id) or self._pixels_of(s.gsd)
      for s in self._sensors
    }

  def _length(self, name: str, max_length: int) -> int:
    """Number of dates to which a series is padded in every window."""
    if name in self._options.periods:
      periods = temporal_average.PERIODS[self._options.periods[name]]
      return min(12 * len(periods), max_length)
    series = self._inputs.get(name)
    return 1 if series is None else min(len(series.days), max_length)

  def _pixels_of(self, gsd: float) -> tuple[int, int]:
    """Pixels of a sensor without rasters in a window."""
    window = self._layout.window(0, 0)
    down, across = window.pixel_metres
    return (
      max(1, round(window.height * down / gsd)),
      max(1, round(window.width * across / gsd)),
    )

  def read(self, row: int, column: int) -> Window | None:
    """Reads one window; None if no sensor has data there."""
    ground = self._layout.window(row, column)
    parts, shares = {}, {}
    has_data = np.zeros((ground.height, ground.width), bool)
    for name, each in self._inputs.items():
      target = ground.with_size(*self.pixels[name])
      values, missing = read_part(each.mosaic, target)
      values = values.astype(each.sensor.numpy_dtype, copy=False)
      if not missing.any():  # the usual case, without work per pixel
        has_data[:] = True
        parts[name], shares[name] = (values, missing, target), 1.0
        continue
      has_values = np.logical_not(missing.all(-1))
      has_data |= _enlarge(has_values, has_data.shape)
      values, missing = self._beyond_the_map(values, missing, ground)
      parts[name] = values, missing, target
      shares[name] = 1 - float(missing.all(-1).mean())
    if not has_data.any():
      return None
    max_share = max(shares.values())
    example: dict[str, Any] = {
      key: {} for key in ("inputs", "dates", "valid", "present")
    }
    for sensor in self._sensors:
      share = shares.get(sensor.id, 0.0)
      present = share > 0 and (share >= _LEAST_SHARE or share == max_share)
      example["present"][sensor.id] = np.bool_(present)
      if present:
        self._add(sensor, *parts[sensor.id], example)
      else:
        self._add_absent(sensor, example)
    absent_sensors = tuple(
      n for n, is_present in example["present"].items() if not is_present
    )
    return Window(row, column, example, has_data, absent_sensors)

  def _beyond_the_map(self, values, missing, ground: Grid):
    """Fills pixels beyond the map: mirrored, or 0 as in the reference."""
    if self._layout.margin is not None:
      is_outside = missing.all(-1)[..., None]
      values = np.where(is_outside, values.dtype.type(0), values)
      return values, missing & ~is_outside
    spans = []
    for axis, start, size in self._spans(ground):
      pixels = values.shape[axis]
      window = (ground.height, ground.width)[axis]
      first = round(max(-start, 0) * pixels / window)
      last = round(min(size - start, window) * pixels / window)
      spans.append((first, max(last, first + 1)))
    if spans == [(0, n) for n in values.shape[:2]]:
      return values, missing
    index = [
      _mirror(first, last, size)
      for (first, last), size in zip(spans, values.shape[:2], strict=True)
    ]
    (top, bottom), (left, right) = spans
    is_outside = np.ones(values.shape[:2], bool)
    is_outside[top:bottom, left:right] = False
    is_mirrored = is_outside[..., None] & missing
    mirror = np.ix_(*index)
    values = np.where(is_mirrored, values[mirror], values)
    return values, np.where(is_mirrored, missing[mirror], missing)

  def _spans(self, ground: Grid):
    """Axis, first pixel of a window, and size of the map along each axis."""
    whole = self._layout.grid
    corner = ground.transform.c, ground.transform.f
    column, row = grids.at(~whole.transform, *corner)
    yield 0, round(row), whole.height
    yield 1, round(column), whole.width

  def _add(self, sensor, values, missing, target, example) -> None:
    """Adds a sensor as `pipeline.PatchReader` does."""
    name = sensor.id
    is_fraction = sensor.dtype == "float32"
    if is_fraction:
      values = np.where(missing, np.float32(np.nan), values)
    if not sensor.is_series:
      if missing.any() and not is_fraction:
        values = validity.fill(values[None], missing[None])[0]
      example["inputs"][name] = patch.prepare_image(values)
      return
    arrays = {
      "values": rasters.split_dates(name, values, sensor.bands),
      "dates": self._inputs[name].days,
    }
    has_mask = self._inputs[name].mask is not None
    mask = sensor.quality_mask if has_mask else None
    if mask is not None:
      arrays["quality"] = self._quality(sensor, target)
    if missing.any() and not is_fraction:
      by_date = rasters.split_dates(name, missing, sensor.bands)
      arrays, _ = rasters.fill_series(arrays, by_date)
    options = self._options
    series = patch.prepare_series(
      arrays["values"],
      arrays["dates"],
      arrays.get("quality"),
      quality_mask=mask,
      reference_date=options.reference_date,
      averaging=options.averaging,
      cloud_filter=options.cloud_filter,
      period=options.periods.get(name),
    )
    for key, array in zip(("inputs", "dates", "valid"), series, strict=True):
      example[key][name] = patch.fit_length(array, self.lengths[name])

  def _quality(self, sensor, target):
    """Values of the quality mask [t h w m]; full cover where it has no data."""
    mask = sensor.quality_mask
    source = self._inputs[sensor.id].mask
    values, missing = read_part(source, target, is_code=True)
    values = np.minimum(np.where(missing, mask.full, values), 255)
    return rasters.split_dates(mask.id, values.astype(np.uint8), mask.bands)

  def _add_absent(self, sensor, example) -> None:
    name = sensor.id
    shape = (*self.pixels[name], len(sensor.bands))
    if sensor.is_series:
      length = self.lengths[name]
      shape = (length, *shape)
      example["dates"][name] = np.zeros(length, np.int32)
      example["valid"][name] = np.zeros(length, bool)
    example["inputs"][name] = np.zeros(shape, sensor.numpy_dtype)

  def empty_example(self) -> dict[str, Any]:
    """An example without data, which fills batches."""
    example: dict[str, Any] = {
      "inputs": {},
      "dates": {},
      "valid": {},
      "present": {s.id: np.True_ for s in self._sensors},
    }
    for sensor in self._sensors:
      self._add_absent(sensor, example)
    return example


def stack(examples: Sequence[Any]) -> Any:
  """Stacks examples, nested dictionaries of arrays, to a batch."""
  first = examples[0]
  if isinstance(first, Mapping):
    return {key: stack([each[key] for each in examples]) for key in first}
  return np.stack(examples)


def _enlarge(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """The nearest value of a mask for each pixel of another size."""
  if mask.shape == shape:
    return mask
  index = [
    np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
    for n, m in zip(shape, mask.shape, strict=True)
  ]
  return mask[np.ix_(*index)]


def _mirror(first: int, last: int, size: int) -> np.ndarray:
  """Index of each pixel, reflected at the borders of `first` to `last`."""
  period = 2 * (last - first)
  place = (np.arange(size) - first) % period
  return first + np.minimum(place, period - 1 - place)
