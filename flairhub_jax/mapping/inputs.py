"""Inputs of a map: checked rasters of each sensor on common ground."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int, Num

from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.mapping import date_file, locate, resample, vrt
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping.grid import Grid
from flairhub_jax.mapping.mosaic import Mosaic
from flairhub_jax.mapping.open_raster import OpenRaster
from flairhub_jax.schema import Schema, Sensor


@dataclasses.dataclass(frozen=True)
class SensorPaths:
  """Paths of the files of one sensor, as the user gives them.

  Attributes:
    raster: path, folder, glob or list.
    dates: of a series, its file of dates.
    mask: of a series, the raster of its quality mask.
  """

  raster: str
  dates: str | None = None
  mask: str | None = None


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
  flag: str, texts: Sequence[str], sensors: Sequence[str]
) -> dict[str, str]:
  """Splits `ID=PATH`; `ID=` may be left out where there is one sensor.

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
        expected = f"{'|'.join(sensors)}=PATH, a sensor of the network"
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
) -> dict[str, SensorInput]:
  """Opens and checks the rasters of all sensors, in the order of the schema.

  Args:
    schema: describes the sensors.
    names: ids of the sensors of the network.
    paths: of the sensors with rasters, at least one.
    reproject: whether rasters of another coordinate system are warped.
    skips_errors: see `Mosaic`.

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
    sensor_input = _open_sensor(
      schema.sensors[name],
      paths[name],
      target if reproject else None,
      skips_errors,
    )
    if target is None:
      target = sensor_input.mosaic.grid.crs
    inputs[name] = sensor_input
  check_ground(inputs)
  return inputs


def _open_sensor(sensor, paths, target_crs, skips_errors) -> SensorInput:
  files = locate.rasters(paths.raster, where=f"--input {sensor.id}")
  raster = Mosaic(
    files,
    num_bands=len(sensor.bands),
    no_data=sensor.no_data,
    target_crs=target_crs,
    skips_errors=skips_errors,
  )
  check_bands(files[0], raster, sensor)
  if not sensor.is_series:
    for flag, path in (("--dates", paths.dates), ("--mask", paths.mask)):
      if path is not None:
        raise InputError(
          f"{flag} {sensor.id}", "a time series", "an image, without dates"
        )
    return SensorInput(sensor, raster)
  if paths.dates is None:
    raise InputError(
      f"--dates {sensor.id}=FILE", "the dates of this time series", "none"
    )
  vrt.check_local(paths.dates, where="--dates")
  days = date_file.read_days(os.path.expanduser(paths.dates))
  number = raster.num_bands // len(sensor.bands)
  if len(days) != number:
    raise InputError(
      paths.dates,
      f"{number} dates, as {files[0]} has ({raster.num_bands} bands of"
      f" {len(sensor.bands)} per date)",
      len(days),
    )
  mask = None
  if paths.mask is not None:
    mask = _open_mask(sensor, paths.mask, number, target_crs, skips_errors)
  return SensorInput(sensor, raster, days, mask)


def _open_mask(sensor, path, num_dates, target_crs, skips_errors) -> Mosaic:
  if sensor.quality_mask is None:
    raise InputError(
      f"--mask {sensor.id}", "a sensor with a quality mask", "none in the run"
    )
  bands = sensor.quality_mask.bands
  paths = locate.rasters(path, where=f"--mask {sensor.id}")
  mask = Mosaic(
    paths,
    num_bands=len(bands),
    target_crs=target_crs,
    skips_errors=skips_errors,
  )
  if mask.num_bands != num_dates * len(bands):
    raise InputError(
      paths[0],
      f"{num_dates} dates of {len(bands)} bands ({', '.join(bands)})",
      f"{mask.num_bands} bands",
    )
  if mask.dtype not in (np.uint8, np.uint16):
    raise InputError(paths[0], "type uint8 or uint16", mask.dtype)
  return mask


def check_bands(path, raster: Mosaic | OpenRaster, sensor: Sensor) -> None:
  """Refuses a raster whose bands or type are not those of its sensor."""
  number, bands = len(sensor.bands), ", ".join(sensor.bands)
  if sensor.is_series and raster.num_bands % number:
    raise InputError(
      path,
      f"a multiple of {number} bands ({bands}) of {sensor.id}",
      f"{raster.num_bands} bands",
    )
  if not sensor.is_series and raster.num_bands != number:
    raise InputError(
      path, f"{number} bands ({bands}) of {sensor.id}", raster.num_bands
    )
  both_fractions = raster.dtype.kind == "f" and sensor.dtype == "float32"
  if not both_fractions and not np.can_cast(
    raster.dtype, sensor.numpy_dtype, "safe"
  ):
    raise InputError(
      path, f"type {sensor.dtype} of {sensor.id}", f"{raster.dtype}"
    )


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
