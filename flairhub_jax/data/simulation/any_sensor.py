"""Simulated pixel values of any sensor, from its schema only.

Each pair of cover and crop has its own value per band, the same in all regions,
so that a network can learn it. Values follow the statistics of the band or, if
it has none, the usual range of its dtype.
"""

import zlib

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

from flairhub_jax.data.simulation import scene, spectra
from flairhub_jax.schema import QualityMask, Sensor

# Standard deviation within a class, relative to that between classes.
_NOISE = 0.3
# Maximum value of 16-bit and larger integers: reflectance x 10000.
_MAX_VALUE = 10_000


def image(
  rng: np.random.Generator,
  row: Sensor,
  pairs: list[tuple[int, int]],
  fractions: Float[np.ndarray, "h w n"],
) -> Num[np.ndarray, "h w c"]:
  """Simulates an image.

  Args:
    rng: of the noise.
    row: the sensor.
    pairs: covers and crops that occur.
    fractions: area fraction of each pair in each pixel.
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
  """Simulates a time series that follows the phenology.

  Args:
    rng: of the noise.
    row: the sensor.
    pairs: covers and crops that occur.
    fractions: area fraction of each pair in each pixel.
    days: day of the year of each date.
  """
  _, spread = _statistics(row)
  green = np.stack([spectra.greenness(*pair, days) for pair in pairs], 1)
  levels = _levels(row, pairs) + spread * green[..., None]
  return _as_stored(rng, row, np.einsum("hwn,tnc->thwc", fractions, levels))


def quality(
  rng: np.random.Generator, mask: QualityMask, shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "t h w m"]:
  """Simulates a quality mask; about half of the dates are clear.

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
    max_value = min(_MAX_VALUE, np.iinfo(row.numpy_dtype).max)
    mean, std = 0.4 * max_value, 0.15 * max_value
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
  """Adds noise and casts; integers are at least 1, as 0 is often no data."""
  _, std = _statistics(row)
  values = values + _NOISE * std * rng.standard_normal(values.shape)
  if np.issubdtype(row.numpy_dtype, np.integer):
    values = np.clip(np.round(values), 1, np.iinfo(row.numpy_dtype).max)
  values = values.astype(row.numpy_dtype)
  if row.no_data is not None:
    # Valid pixels must not have the no-data value.
    other = row.no_data + (1 if row.no_data <= 0 else -1)
    values[values == row.no_data] = other
  return values
