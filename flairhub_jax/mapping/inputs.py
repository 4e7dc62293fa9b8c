"""Inputs of a map: checked rasters of each sensor on common ground."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Num

from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.mapping import (
  band_choice,
  date_file,
  locate,
  remote,
  resample,
)
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping.grid import Grid
from flairhub_jax.mapping.mosaic import Mosaic
from flairhub_jax.mapping.open_raster import OpenRaster
from flairhub_jax.schema import Schema, Sensor


@dataclasses.dataclass(frozen=True)
class SensorPaths:
  """Paths of the files of one sensor, as the user gives them.

  Attributes:
    raster: path, folder, glob, list or address.
    dates: of a series, its file of dates.
    mask: of a series, the raster of its quality mask.
    bands: indices, from 0, of the bands to take, per date; None: all.
    scale: factor and offset by which values become those of the sensor.
  """

  raster: str
  dates: str | None = None
  mask: str | None = None
  bands: tuple[int, ...] | None = None
  scale: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class SensorInput:
  """The rasters of a sensor.

  Attributes:
    sensor: its description.
    mosaic: its rasters.
    days: of a series, days since 1970-01-01.
    mask: of a series, the rasters of its quality mask.
  """

  sensor: Sensor
  mosaic: Mosaic | OpenRaster
  days: Int[np.ndarray, "t"] | None = None
  mask: Mosaic | OpenRaster | None = None


def parse_pairs(
  flag: str,
  texts: Sequence[str],
  sensors: Sequence[str],
  *,
  value: str = "PATH",
) -> dict[str, str]:
  """Splits `ID=PATH`; `ID=` may be left out where there is one sensor.

  Args:
    flag: for errors.
    texts: of the command line.
    sensors: ids that may be named.
    value: what follows the id, for errors.

  Raises:
    InputErrors: ids that the network does not have, or given twice.
  """
  paths, problems = {}, []
  for text in texts:
    name, equals, path = text.partition("=")
    if not equals or (name not in sensors and len(sensors) == 1):
      if len(sensors) == 1 and not (equals and os.path.sep not in name):
        name, path = sensors[0], text
      else:
        expected = f"{'|'.join(sensors)}={value}, a sensor of the network"
        problems.append(str(InputError(flag, expected, repr(text))))
        continue
    if name not in sensors:
      expected = f"one of {', '.join(sensors)}, the sensors of the network"
      problems.append(str(InputError(flag, expected, repr(name))))
    elif name in paths:
      problems.append(str(InputError(flag, f"{name} once", "it twice")))
    paths[name] = path
  if problems:
    raise InputErrors(problems)
  return paths


def open_inputs(
  schema: Schema,
  names: Sequence[str],
  paths: Mapping[str, SensorPaths],
  *,
  reproject: bool = False,
  skips_errors: bool = False,
  allow_remote: bool = False,
) -> dict[str, SensorInput]:
  """Opens and checks the rasters of all sensors, in the order of the schema.

  Args:
    schema: describes the sensors.
    names: ids of the sensors of the network.
    paths: of the sensors with rasters, at least one.
    reproject: whether rasters of another coordinate system are warped.
    skips_errors: see `Mosaic`.
    allow_remote: see `locate.rasters`.

  Raises:
    InputError: rasters that cannot be read, do not fit their sensor, lie
      elsewhere, or in another coordinate system.
  """
  if not paths:
    ids = ", ".join(names)
    raise InputError("--input", f"a raster of any of {ids}", "none")
  inputs: dict[str, SensorInput] = {}
  target = None
  for name in [n for n in schema.sensors if n in paths]:
    reader = _Opener(target if reproject else None, skips_errors, allow_remote)
    inputs[name] = _open_sensor(schema.sensors[name], paths[name], reader)
    if target is None:
      target = inputs[name].mosaic.grid.crs
  check_ground(inputs)
  return inputs


@dataclasses.dataclass(frozen=True)
class _Opener:
  """Opens mosaics with the options of a map; see `Mosaic`, `locate`."""

  target_crs: str | None
  skips_errors: bool
  allow_remote: bool

  def __call__(self, path: str, where: str, **options: Any) -> Mosaic:
    files = locate.rasters(path, where=where, allow_remote=self.allow_remote)
    return Mosaic(
      files,
      target_crs=self.target_crs,
      skips_errors=self.skips_errors,
      **options,
    )


def _open_sensor(
  sensor: Sensor, paths: SensorPaths, open_mosaic: _Opener
) -> SensorInput:
  mosaic = open_mosaic(
    paths.raster,
    f"--input {sensor.id}",
    num_bands=max(paths.bands) + 1 if paths.bands else len(sensor.bands),
    no_data=sensor.no_data,
    scale_flag=None if paths.scale else f"--scale {sensor.id}=FACTOR,OFFSET",
  )
  if paths.bands is None:
    band_choice.check_number(mosaic, sensor)
  days, mask = None, None
  if sensor.is_series:
    days = _read_days(sensor, paths, mosaic)
    if paths.mask is not None:
      mask = _open_mask(sensor, paths.mask, len(days), open_mosaic)
  else:
    for flag, path in (("--dates", paths.dates), ("--mask", paths.mask)):
      if path is not None:
        raise InputError(
          f"{flag} {sensor.id}", "a time series", "an image, without dates"
        )
  conversion = band_choice.choose(
    mosaic,
    sensor,
    num_dates=1 if days is None else len(days),
    bands=paths.bands,
    scale=paths.scale,
  )
  if conversion is not None:
    mosaic.convert(conversion)
  return SensorInput(sensor, mosaic, days, mask)


def _read_days(sensor, paths, mosaic) -> Int[np.ndarray, "t"]:
  """The dates of a series, as many as its files have."""
  if paths.dates is None:
    raise InputError(
      f"--dates {sensor.id}=FILE", "the dates of this time series", "none"
    )
  remote.check_local(paths.dates, where="--dates")
  days = date_file.read_days(os.path.expanduser(paths.dates))
  stored, per_date, file = (
    mosaic.num_bands,
    len(sensor.bands),
    mosaic.tiles[0].path,
  )
  if paths.bands is None and len(days) != stored // per_date:
    raise InputError(
      paths.dates,
      f"{stored // per_date} dates, as {file} has ({stored} bands of"
      f" {per_date} per date)",
      len(days),
    )
  if stored % len(days):
    raise InputError(
      paths.dates,
      f"a number of dates that divides the {stored} bands of {file}",
      len(days),
    )
  return days


def _open_mask(sensor, path, num_dates, open_mosaic) -> Mosaic:
  if sensor.quality_mask is None:
    raise InputError(
      f"--mask {sensor.id}", "a sensor with a quality mask", "none in the run"
    )
  bands = sensor.quality_mask.bands
  mask = open_mosaic(path, f"--mask {sensor.id}", num_bands=len(bands))
  if mask.num_bands != num_dates * len(bands):
    raise InputError(
      mask.tiles[0].path,
      f"{num_dates} dates of {len(bands)} bands ({', '.join(bands)})",
      f"{mask.num_bands} bands",
    )
  if mask.dtype not in (np.uint8, np.uint16):
    raise InputError(mask.tiles[0].path, "type uint8 or uint16", mask.dtype)
  return mask


def check_ground(inputs: Mapping[str, SensorInput]) -> None:
  """Refuses rasters of several coordinate systems, or without common ground."""
  (first, reference), *others = inputs.items()
  ground = reference.mosaic.grid
  for name, other in others:
    grid = other.mosaic.grid
    if not grids.is_same_crs(ground.crs, grid.crs):
      raise InputError(
        f"--input {name}",
        f"{grids.crs_name(ground.crs)}, as {first} has, or --reproject",
        grids.crs_name(grid.crs),
      )
    if not grids.overlaps(ground.bounds, grid.bounds):
      raise InputError(
        f"--input {name}",
        f"ground that {first} covers ({ground.extent()}"
        f" in {grids.crs_name(ground.crs)})",
        grid.extent(),
      )
  for name, each in inputs.items():
    if each.mask is None:
      continue
    grid = each.mask.grid
    if not (
      grids.is_same_crs(grid.crs, each.mosaic.grid.crs)
      and grids.overlaps(grid.bounds, each.mosaic.grid.bounds)
    ):
      raise InputError(f"--mask {name}", f"ground of {name}", grid.extent())


def read_part(
  source: Mosaic | OpenRaster, target: Grid, *, is_code: bool = False
) -> tuple[Num[np.ndarray, "h w n"], Bool[np.ndarray, "h w n"]]:
  """Reads a mosaic on another grid; see `resample`.

  Args:
    source: the mosaic.
    target: grid of the result, in the same coordinate system.
    is_code: see `resample.make_plan`.

  Returns:
    Values in the stored type; bool, True without data.
  """
  plan = resample.make_plan(source.grid, target, is_code=is_code)
  values, missing = source.read(*resample.block(plan))
  return resample.apply(plan, values, missing)


def close(inputs: Mapping[str, SensorInput]) -> None:
  """Closes all rasters."""
  for each in inputs.values():
    each.mosaic.close()
    if each.mask is not None:
      each.mask.close()
