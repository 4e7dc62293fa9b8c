"""Preprocessing of single patches before batching, as functions of arrays.

`pipeline` applies them to records, but they accept any arrays. Bands are
selected and normalised on the device, see `models/normalise.py`.
"""

import numpy as np
from jaxtyping import Bool, Int, Num, Shaped, UInt8

from flairhub_jax.data import temporal_average, time_series
from flairhub_jax.schema import QualityMask


def prepare_image(
  values: Num[np.ndarray, "h w c"],
) -> Num[np.ndarray, "h w c"]:
  """Fills missing pixels; see `time_series.fill_missing_pixels`."""
  return time_series.fill_missing_pixels(values[None])[0]


def prepare_series(
  values: Num[np.ndarray, "t h w c"],
  dates: Int[np.ndarray, "t"],
  quality: UInt8[np.ndarray, "t h w m"] | None = None,
  *,
  quality_mask: QualityMask | None = None,
  reference_date: str,
  averaging: str,
  cloud_filter: time_series.CloudFilter | None = None,
  period: str | None = None,
) -> tuple[
  Num[np.ndarray, "n h w c"], Int[np.ndarray, "n"], Bool[np.ndarray, "n"]
]:
  """Selects dates, fills missing pixels and averages over time.

  Args:
    values: measurements; NaN and infinite values are missing.
    dates: days since 1970-01-01; may be empty.
    quality: stored values of the bands of the quality mask.
    quality_mask: describes `quality`; None: dates are not filtered by it.
    reference_date: month-day from which days are counted.
    averaging: one of `temporal_average.RULES`; no effect without `period`.
    cloud_filter: filter of cloudy dates; None keeps them.
    period: one of `temporal_average.PERIODS`; None: no average.

  Returns:
    Values; days from the reference date, int32; and a mask of the valid dates,
    False for padding.
  """
  date_mask = time_series.choose_dates(
    values, quality, quality_mask, cloud_filter
  )
  values = time_series.fill_missing_pixels(values[date_mask])
  dates = dates[date_mask]
  if period is not None:
    return temporal_average.average_periods(
      values,
      dates,
      period=period,
      rule=averaging,
      reference_date=reference_date,
    )
  days = time_series.days_from_reference(dates, reference_date)
  return values, days, np.ones(len(days), bool)


def fit_length(
  series: Shaped[np.ndarray, "t ..."], length: int
) -> Shaped[np.ndarray, "length ..."]:
  """Thins a longer series evenly and pads a shorter one with zeros.

  Args:
    series: array with one entry per date: values, days or `valid`.
    length: number of dates of the result.
  """
  series = series[time_series.thin(len(series), length)]
  return time_series.pad_dates(series, length)
