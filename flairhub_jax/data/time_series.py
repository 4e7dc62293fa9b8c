"""Time series: selecting, counting, thinning and padding dates; filling."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int, Num, Shaped, UInt8

from flairhub_jax import fields
from flairhub_jax.schema import QualityMask

# Dates with a larger fraction of missing values are dropped.
MAX_FRACTION_MISSING = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloudFilter:
  """Thresholds of `select_clear_dates`."""

  max_cloud: float
  max_snow: float
  max_cover: float
  fallback: str


def choose_dates(
  values: Num[np.ndarray, "t h w c"],
  quality: UInt8[np.ndarray, "t h w m"] | None = None,
  mask: QualityMask | None = None,
  cloud_filter: CloudFilter | None = None,
) -> Bool[np.ndarray, "t"]:
  """Returns a mask of the selected dates.

  Args:
    values: NaN and infinite values are missing.
    quality: stored values of the bands of `mask`.
    mask: quality mask of the series; None: it has none.
    cloud_filter: filter of cloudy dates; None keeps them.
  """
  date_mask = np.ones(len(values), bool)
  if cloud_filter is not None and quality is not None and mask is not None:
    date_mask = select_clear_dates(
      quality, mask, **dataclasses.asdict(cloud_filter)
    )
  if np.issubdtype(values.dtype, np.floating):
    missing = ~np.isfinite(values)
    date_mask &= missing.mean((1, 2, 3)) <= MAX_FRACTION_MISSING
  return date_mask


def days_from_reference(
  dates: Int[np.ndarray, "t"], month_day: str
) -> Int[np.ndarray, "t"]:
  """Counts the days from `month_day` ("05-15") of each date's own year.

  Args:
    dates: days since 1970-01-01.
    month_day: reference day, as month-day, or as year-month-day with the year
      ignored.

  Returns:
    int32, negative before the reference day.
  """
  calendar = np.asarray(dates, "int64").astype("datetime64[D]")
  years = calendar.astype("datetime64[Y]")
  month, day = fields.month_and_day(month_day)
  # A month's offset from January is exact for every year.
  reference = (years.astype("datetime64[M]") + (month - 1)).astype(
    "datetime64[D]"
  ) + (day - 1)
  return (calendar - reference).astype(np.int32)


def select_clear_dates(
  quality: UInt8[np.ndarray, "t h w m"],
  mask: QualityMask,
  *,
  max_cloud: float,
  max_snow: float,
  max_cover: float,
  fallback: str = "least_covered",
) -> Bool[np.ndarray, "t"]:
  """Returns a mask of the dates that show the ground.

  Args:
    quality: stored values of the bands of `mask`.
    mask: quality mask of the series.
    max_cloud: a pixel is covered where any band but `snow` is higher, in
      percent of `mask.full`.
    max_snow: a pixel is covered where the band `snow` is higher, likewise.
    max_cover: maximum fraction of covered pixels of a selected date, 0-1.
    fallback: rule if no date passes: "least_covered" selects the date with the
      fewest covered pixels; "snow_free" follows the reference and omits the
      test of all bands but `snow`, so it may select cloudy dates or none.
  """
  num_pixels = quality[0, ..., 0].size if len(quality) else 0
  least = (1 - max_cover) * num_pixels
  is_clear = np.ones(quality.shape[:-1], bool)
  is_snow_free = np.ones(quality.shape[:-1], bool)
  for i, name in enumerate(mask.bands):
    percent = max_snow if name == "snow" else max_cloud
    passes = 100 * quality[..., i].astype(np.float64) <= percent * mask.full
    is_clear &= passes
    if name == "snow":
      is_snow_free &= passes
  clear = is_clear.sum((1, 2))
  selected = clear >= least
  if selected.any() or not len(selected):
    return selected
  if fallback == "snow_free":
    return is_snow_free.sum((1, 2)) >= least
  return np.arange(len(clear)) == np.argmax(clear)


def fill_missing_pixels(
  values: Num[np.ndarray, "t h w c"],
) -> Num[np.ndarray, "t h w c"]:
  """Replaces NaN and infinite values; integers have none.

  A missing pixel gets the median of its date and band, since patches of series
  have only 10 x 10 pixels.
  """
  if not np.issubdtype(values.dtype, np.floating):
    return values
  missing = ~np.isfinite(values)
  if not missing.any():
    return values
  filled = values.copy()
  for t in np.flatnonzero(missing.any((1, 2, 3))):
    for c in range(values.shape[-1]):
      hole = missing[t, ..., c]
      rest = values[t, ..., c][~hole]
      filled[t, ..., c][hole] = np.median(rest) if rest.size else 0.0
  return filled


def thin(num_dates: int, limit: int) -> Int[np.ndarray, "n"]:
  """Returns at most `limit` evenly spaced indices, with first and last date."""
  if num_dates <= limit:
    return np.arange(num_dates)
  return np.linspace(0, num_dates - 1, limit).round().astype(np.int64)


def pad_dates(
  series: Shaped[np.ndarray, "t ..."], length: int
) -> Shaped[np.ndarray, "length ..."]:
  """Appends zeros along the first axis up to `length`."""
  padding = np.zeros((length - len(series), *series.shape[1:]), series.dtype)
  return np.concatenate([series, padding])
