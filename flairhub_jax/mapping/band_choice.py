"""Bands of files that become those of a sensor: number, order and type."""

from collections.abc import Sequence

import numpy as np

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import band_names, sample
from flairhub_jax.mapping.conversion import Conversion
from flairhub_jax.mapping.mosaic import Mosaic
from flairhub_jax.schema import Sensor


def choose(
  mosaic: Mosaic,
  sensor: Sensor,
  *,
  num_dates: int = 1,
  bands: Sequence[int] | None = None,
  scale: tuple[float, float] | None = None,
) -> Conversion | None:
  """Checks what files hold and how it becomes what the sensor stores.

  Args:
    mosaic: the files.
    sensor: its description.
    num_dates: of the files; 1 of an image.
    bands: indices, from 0, of the bands to take, per date; None: all.
    scale: factor and offset of the values.

  Returns:
    The conversion; None if values are taken as they are.

  Raises:
    InputError: another number, order or type of bands.
  """
  per_date = mosaic.num_bands // num_dates
  if bands is None:
    band_names.check(mosaic.tiles, sensor, per_date)
    bands = range(len(sensor.bands))
  elif len(bands) != len(sensor.bands) or max(bands) >= per_date:
    raise InputError(
      f"--bands {sensor.id}",
      f"{len(sensor.bands)} numbers up to {per_date}, for"
      f" {', '.join(sensor.bands)}",
      ",".join(str(band + 1) for band in bands),
    )
  if scale is None:
    _check_type(mosaic, sensor)
  elif mosaic.dtype.itemsize > 4 and mosaic.dtype.kind != "f":
    raise InputError(
      mosaic.tiles[0].path, "whole numbers of at most 32 bits", mosaic.dtype
    )
  every = tuple(
    date * per_date + band for date in range(num_dates) for band in bands
  )
  if scale is None and every == tuple(range(mosaic.num_bands)):
    return None
  dtype = mosaic.dtype if scale is None else sensor.numpy_dtype
  return Conversion(every, dtype, *(scale or (1.0, 0.0)))


def check_number(mosaic: Mosaic, sensor: Sensor) -> None:
  """Refuses another number of bands than the sensor has.

  Raises:
    InputError: it differs; names the flag that chooses bands, if that helps.
  """
  number, bands = len(sensor.bands), ", ".join(sensor.bands)
  found = mosaic.num_bands
  tile = mosaic.tiles[0]
  if sensor.is_series and found % number:
    raise InputError(
      tile.path,
      f"a multiple of {number} bands ({bands}) of {sensor.id}",
      f"{found} bands; --bands {sensor.id}=… chooses those of each date",
    )
  if not sensor.is_series and found != number:
    order = band_names.order(sensor.bands, tile.names)
    remedy = ""
    if order is not None:
      remedy = f"; their names suggest {_flag(sensor, order)}"
    elif found > number:
      flag = _flag(sensor, range(number))
      remedy = f"; {flag} takes the first {number}"
    raise InputError(
      tile.path, f"{number} bands ({bands}) of {sensor.id}", f"{found}{remedy}"
    )


def _flag(sensor: Sensor, bands: Sequence[int]) -> str:
  numbers = ",".join(str(band + 1) for band in bands)
  return f"--bands {sensor.id}={numbers}"


def _check_type(mosaic: Mosaic, sensor: Sensor) -> None:
  """Refuses a type that the sensor's does not hold, and suggests a scale."""
  target = sensor.numpy_dtype
  if mosaic.dtype.kind == target.kind == "f" or np.can_cast(
    mosaic.dtype, target, "safe"
  ):
    return
  values = sample.take(mosaic)
  found = f"{mosaic.dtype}"
  if np.isfinite(values).any():
    low, high = np.nanmin(values), np.nanmax(values)
    factor, reason = _factor(low, high, target)
    found += (
      f", values {low:.4g} to {high:.4g}; --scale {sensor.id}={factor:.5g}"
      f" {reason}"
    )
  raise InputError(
    mosaic.tiles[0].path, f"type {sensor.dtype} of {sensor.id}", found
  )


def _factor(low: float, high: float, target: np.dtype) -> tuple[float, str]:
  """A factor that values of a sample suggest, and why."""
  if target.kind == "f":
    return 1, "takes them as they are"
  limits = np.iinfo(target)
  if 0 <= low and 0 < high <= 1 + 1e-6:
    full = 255 if target == np.uint8 else 10_000
    return full, f"turns 0-1 into 0-{full}"
  if limits.min <= low and high <= limits.max:
    return 1, "takes them as they are"
  if high > limits.max:
    return limits.max / high, f"turns {high:.4g} into {limits.max}"
  return 1, f"takes values below {limits.min} for {limits.min}"
