"""Images of a simulated region by all sensors of a schema."""

import functools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from flairhub_jax.data.simulation import any_sensor, classes, plan, sensors
from flairhub_jax.data.simulation import scene as scene_lib
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import Sensor

_SERIES = ("SENTINEL2_TS", "SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS")


def render(
  region: plan.Region, settings: plan.Settings
) -> dict[str, np.ndarray]:
  """Returns the raster of each file column over the whole region, [h w c]."""
  rows, columns = region.shape
  # One random stream per sensor, so that sensors are independent.
  streams = np.random.SeedSequence([settings.seed, region.number]).spawn(8)
  rngs = [np.random.default_rng(stream) for stream in streams]
  scene = scene_lib.build_scene(
    rngs[0],
    (rows * settings.pixels, columns * settings.pixels),
    settings.metres / settings.pixels,
    region.name[0],
    region.altitude,
  )
  arrays = {}
  for column, labels in classes.draw(scene, settings.schema).items():
    size = settings.size(settings.schema.label_columns[column][0].gsd)
    arrays[column] = classes.on_grid(labels, rows * size, columns * size)
  domain = int(region.domain[1:4])
  air = sensors.draw_atmosphere(np.random.default_rng([settings.seed, domain]))
  half = (rows * settings.pixels // 2, columns * settings.pixels // 2)
  renderers: dict[str, Callable[[Any], Any]] = {
    "AERIAL_RGBI": lambda rng: sensors.aerial(rng, scene, air),
    "DEM_ELEV": lambda rng: sensors.elevation(rng, scene),
    "SPOT_RGBI": lambda rng: sensors.spot(
      rng, scene, (rows * 64, columns * 64)
    ),
    plan.HISTORICAL: lambda rng: sensors.historical(rng, scene, half),
  }
  renderers |= {
    name: functools.partial(_render_sentinel, name, region, settings, scene)
    for name in _SERIES
  }
  rng_of = dict(zip(renderers, rngs[1:], strict=True))
  published = plan.Settings(1, 1, (), 0, FLAIR_HUB).metres
  for name in settings.modalities:
    sensor = settings.schema.sensors[name]
    if plan.is_published(sensor) and settings.metres == published:
      image = renderers[name](rng_of[name])
      arrays |= image if isinstance(image, dict) else {name: image}
    else:
      arrays |= _render_other(sensor, region, settings, scene)
  return arrays


def _render_sentinel(
  name: str,
  region: plan.Region,
  settings: plan.Settings,
  scene: scene_lib.Scene,
  rng: np.random.Generator,
) -> dict[str, np.ndarray]:
  """Returns a published series, and its quality mask if it has one."""
  rows, columns = region.shape
  sensor = settings.schema.sensors[name]
  pairs, fractions = sensors.cover_fractions(scene, (10 * rows, 10 * columns))
  days = _days(region, sensor, settings)
  if sensor.quality_mask is not None:
    series, mask = sensors.sentinel2(
      rng, pairs, fractions, days, region.altitude
    )
    return {name: _stack(series), sensor.quality_mask.id: _stack(mask)}
  orbit = 0.5 if "ASC" in name else -0.7
  return {name: _stack(sensors.sentinel1(rng, pairs, fractions, days, orbit))}


def _render_other(
  row: Sensor,
  region: plan.Region,
  settings: plan.Settings,
  scene: scene_lib.Scene,
) -> dict[str, np.ndarray]:
  """Returns the rasters of a sensor that is not published."""
  size = settings.size(row.gsd)
  rows, columns = region.shape
  pairs, fractions = sensors.cover_fractions(
    scene, (size * rows, size * columns)
  )
  key = [settings.seed, region.number, zlib.crc32(row.id.encode())]
  rng = np.random.default_rng(key)
  if not row.is_series:
    return {row.id: any_sensor.image(rng, row, pairs, fractions)}
  days = _days(region, row, settings)
  series = any_sensor.series(rng, row, pairs, fractions, days)
  arrays = {row.id: _stack(series)}
  if row.quality_mask is not None:
    mask = any_sensor.quality(rng, row.quality_mask, series.shape[:3])
    arrays[row.quality_mask.id] = _stack(mask)
  return arrays


def _days(
  region: plan.Region, sensor: Sensor, settings: plan.Settings
) -> np.ndarray:
  """Returns the day of the year of each date of a series."""
  dates = plan.draw_dates(region, sensor, settings.seed)
  return np.array([date.timetuple().tm_yday for date in dates])


def _stack(series: np.ndarray) -> np.ndarray:
  """Reshapes [t h w c] to [h w t*c], the layout of files."""
  t, h, w, c = series.shape
  return np.moveaxis(series, 0, 2).reshape(h, w, t * c)
