"""Inputs of a map from arrays and open datasets, for notebooks."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from rasterio import Affine

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import date_file, inputs, open_raster
from flairhub_jax.mapping.inputs import SensorInput
from flairhub_jax.mapping.open_raster import OpenRaster
from flairhub_jax.schema import Schema, Sensor


def open_inputs(
  schema: Schema,
  names: Sequence[str],
  rasters: Any,
  *,
  dates: Mapping[str, Any],
  masks: Mapping[str, Any],
) -> dict[str, SensorInput]:
  """Checks rasters in the order of the schema, as `inputs.open_inputs` does.

  Args:
    schema: describes the sensors.
    names: ids of the sensors of the network.
    rasters: of some or all of them by id; one alone, for one sensor. Each is an
      array, `(array, transform, crs)`, an open dataset of rasterio, or a
      DataArray of xarray with rioxarray.
    dates: of each series, YYYY-MM-DD, YYYYMMDD, or dates of Python or NumPy;
      those of a DataArray are its `time`.
    masks: of some series, rasters of their quality masks.

  Raises:
    InputError: rasters or dates that do not fit their sensor or each other.
  """
  if not isinstance(rasters, Mapping):
    if len(names) != 1:
      raise InputError("rasters", f"by sensor: {', '.join(names)}", "only one")
    rasters = {names[0]: rasters}
  series = [name for name in names if schema.sensors[name].is_series]
  known = ", ".join(names)
  for where, given, expected in (
    ("rasters", rasters, names),
    ("dates", dates, series),
    ("masks", masks, series),
  ):
    for name in given:
      if name not in expected or name not in rasters:
        whose = known if where == "rasters" else "series with rasters"
        raise InputError(where, f"sensors of the network: {whose}", name)
  if not rasters:
    raise InputError("rasters", f"those of any of {known}", "none")
  result = {
    name: _open_sensor(
      schema.sensors[name], rasters[name], dates.get(name), masks.get(name)
    )
    for name in schema.sensors
    if name in rasters
  }
  inputs.check_ground(result)
  return result


def is_placed(rasters: Any) -> bool:
  """Whether the place of any raster on the ground is given."""
  if isinstance(rasters, Mapping):
    return any(is_placed(raster) for raster in rasters.values())
  return not _is_bare(rasters)


def _open_sensor(sensor: Sensor, raster, dates, mask) -> SensorInput:
  where = f"rasters[{sensor.id!r}]"
  own = _open(where, raster, sensor, len(sensor.bands), sensor.no_data)
  _check_bands(where, own, sensor)
  if not sensor.is_series:
    return SensorInput(sensor, own)
  if dates is None and open_raster.is_data_array(raster):
    dates = raster["time"].values
  number = own.num_bands // len(sensor.bands)
  days = _days(f"dates[{sensor.id!r}]", dates, number)
  if mask is None:
    return SensorInput(sensor, own, days)
  where = f"masks[{sensor.id!r}]"
  if sensor.quality_mask is None:
    raise InputError(where, "a sensor with a quality mask", "none in the run")
  bands = sensor.quality_mask.bands
  quality = _open(where, mask, sensor, len(bands), None)
  if quality.num_bands != number * len(bands):
    raise InputError(
      where,
      f"{number} dates of {len(bands)} bands ({', '.join(bands)})",
      f"{quality.num_bands} bands",
    )
  if quality.dtype not in (np.uint8, np.uint16):
    raise InputError(where, "type uint8 or uint16", quality.dtype)
  return SensorInput(sensor, own, days, quality)


def _check_bands(where: str, raster: OpenRaster, sensor: Sensor) -> None:
  """Refuses a raster whose bands or type are not those of its sensor."""
  number, bands = len(sensor.bands), ", ".join(sensor.bands)
  if sensor.is_series and raster.num_bands % number:
    raise InputError(
      where,
      f"a multiple of {number} bands ({bands}) of {sensor.id}",
      f"{raster.num_bands} bands",
    )
  if not sensor.is_series and raster.num_bands != number:
    raise InputError(
      where, f"{number} bands ({bands}) of {sensor.id}", raster.num_bands
    )
  both_fractions = raster.dtype.kind == "f" and sensor.dtype == "float32"
  if not both_fractions and not np.can_cast(
    raster.dtype, sensor.numpy_dtype, "safe"
  ):
    raise InputError(
      where, f"type {sensor.dtype} of {sensor.id}", f"{raster.dtype}"
    )


def _open(where, raster, sensor: Sensor, num_bands, no_data) -> OpenRaster:
  if open_raster.is_dataset(raster):
    return open_raster.of_dataset(
      where, raster, num_bands=num_bands, no_data=no_data
    )
  if open_raster.is_data_array(raster):
    return open_raster.of_data_array(
      where, raster, is_series=sensor.is_series, no_data=no_data
    )
  transform, crs = Affine.scale(sensor.gsd, -sensor.gsd), None
  if not _is_bare(raster):
    if len(raster) != 3:
      raise InputError(
        where, "(array, transform, crs)", f"a tuple of {len(raster)}"
      )
    raster, transform, crs = raster
  return open_raster.of_array(
    where,
    raster,
    is_series=sensor.is_series,
    transform=transform,
    crs=crs,
    no_data=() if no_data is None else (no_data,),
  )


def _is_bare(raster: Any) -> bool:
  """Whether it is an array alone, of pixels of the GSD of its sensor."""
  return not (
    isinstance(raster, tuple)
    or open_raster.is_dataset(raster)
    or open_raster.is_data_array(raster)
  )


def _days(where, dates, number: int) -> Int[np.ndarray, "t"]:
  """Days since 1970-01-01 of a series of so many dates."""
  if dates is None:
    raise InputError(where, f"the {number} dates of this time series", "none")
  if isinstance(dates, str) or not isinstance(dates, Iterable):
    raise InputError(where, f"a list of {number} dates", repr(dates))
  days = [
    date_file.day(f"{where}, date {i + 1}", _text(date))
    for i, date in enumerate(dates)
  ]
  if len(days) != number:
    raise InputError(where, f"{number} dates, as the rasters have", len(days))
  return np.array(days, np.int32)


def _text(date: Any) -> str:
  """A date as YYYY-MM-DD; strings and numbers as they are."""
  if isinstance(date, datetime.date | np.datetime64):
    return str(np.asarray(date, "datetime64[D]"))
  return str(date)
