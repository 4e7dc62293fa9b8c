"""Simulated pixel values of any sensor, from its row in the schema alone.

Each pair of cover and crop has a value of its own in each band, the same in all
regions, so that a network can learn it. Values lie around the statistics of the
band; where it has none, in the usual range of its type.
"""

import zlib

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

from flairhub_jax.data.simulation import scene, spectra
from flairhub_jax.schema import QualityMask, Sensor

# Spread within a class, relative to the spread between classes.
_NOISE = 0.3
# Largest value of wide whole-number types: reflectance x 10000.
_LARGEST = 10_000


def image(
  rng: np.random.Generator,
  row: Sensor,
  pairs: list[tuple[int, int]],
  fractions: Float[np.ndarray, "h w n"],
) -> Num[np.ndarray, "h w c"]:
  """An image of the sensor.

  Args:
    rng: of the noise.
    row: the sensor.
    pairs: covers and crops that occur.
    fractions: fraction of each pair in the area of each pixel.
  """
  values = np.einsum("hwn,nc->hwc", fractions, _levels(row, pairs))
  return _as_stored(rng, row, values)


def series(
  rng: np.random.Generator,
  row: Sensor,
  pairs: list[tuple[int, int]],
  fractions: Float[np.ndarray, "h w n"],
  days: Int[np.ndarray, "t"],
) -> Num[np.ndarray, "t h w c"]:
  """A time series of the sensor, which follows the vegetation.

  Args:
    rng: of the noise.
    row: the sensor.
    pairs: covers and crops that occur.
    fractions: fraction of each pair in the area of each pixel.
    days: of the year, of each date.
  """
  _, spread = _statistics(row)
  green = np.stack([spectra.greenness(*pair, days) for pair in pairs], 1)
  levels = _levels(row, pairs) + spread * green[..., None]
  return _as_stored(rng, row, np.einsum("hwn,tnc->thwc", fractions, levels))


def quality(
  rng: np.random.Generator, mask: QualityMask, shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "t h w m"]:
  """A quality mask: about half of the dates are clear.

  Args:
    rng: of the clouds.
    mask: bands and range of the values.
    shape: dates, rows and columns.
  """
  values = np.zeros((*shape, len(mask.bands)))
  for date in values:
    for band in range(len(mask.bands)):
      if rng.random() < 0.6 / len(mask.bands):
        cover = rng.uniform(-1, 3) + scene.smooth_noise(rng, shape[1:], 3.0)
        date[..., band] = np.clip(cover, 0, 1)
  return np.round(mask.full * values).astype(np.uint8)


def _statistics(row):
  """Mean and standard deviation of each band, [c] each."""
  if np.issubdtype(row.numpy_dtype, np.floating):
    mean, std = 0.0, 1.0
  else:
    largest = min(_LARGEST, np.iinfo(row.numpy_dtype).max)
    mean, std = 0.4 * largest, 0.15 * largest
  return (
    np.array([row.mean.get(band, mean) for band in row.bands]),
    np.array([row.std.get(band, std) for band in row.bands]),
  )


def _levels(row, pairs):
  """Value of each pair in each band, [n c]."""
  mean, std = _statistics(row)
  sensor = zlib.crc32(row.id.encode())
  draws = [
    np.random.default_rng([sensor, *pair]).standard_normal(len(row.bands))
    for pair in pairs
  ]
  return mean + std * np.stack(draws)


def _as_stored(rng, row, values):
  """Adds noise; whole numbers start from 1, as 0 often means no data."""
  _, std = _statistics(row)
  values = values + _NOISE * std * rng.standard_normal(values.shape)
  if np.issubdtype(row.numpy_dtype, np.integer):
    values = np.clip(np.round(values), 1, np.iinfo(row.numpy_dtype).max)
  values = values.astype(row.numpy_dtype)
  if row.no_data is not None:
    # No measurement may look like a missing one.
    other = row.no_data + (1 if row.no_data <= 0 else -1)
    values[values == row.no_data] = other
  return values
