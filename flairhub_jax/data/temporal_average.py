"""Averages of a time series per month or half month."""

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from flairhub_jax.data import time_series

# Name -> day of the month at the middle of each period; the first half of a
# month ends on the 15th, as in the reference.
PERIODS = {"monthly": (15,), "semi-monthly": (8, 23)}
_LAST_DAY_OF_FIRST_HALF = 15

RULES = ("observed", "reference")


def average_periods(
  values: Num[np.ndarray, "t h w c"],
  dates: Int[np.ndarray, "t"],
  *,
  period: str,
  rule: str,
  reference_date: str,
) -> tuple[
  Float[np.ndarray, "p h w c"], Int[np.ndarray, "p"], Bool[np.ndarray, "p"]
]:
  """Averages the dates of each period of the calendar year.

  Args:
    values: finite, one image per date.
    dates: days since 1970-01-01, in any order; may be empty.
    period: length of a period, 12 or 24 per year.
    rule: "observed" averages the dates of all years and pads a period without
      dates. "reference" repeats the previous period, with its day, and pads
      only before the first; its half months use the year of the first date
      only. It recognises padding by zeros, so an all-zero average is padding.
    reference_date: month-day from which days are counted.

  Returns:
    Float32 averages, zeros where padded; int32 days from the reference date to
    the middle of each period, in the year of the first date; and a mask of the
    periods that are not padding.
  """
  middles = PERIODS[period]
  num_periods = 12 * len(middles)
  averages = np.zeros((num_periods, *values.shape[1:]), np.float32)
  if not len(dates):
    nothing = np.zeros(num_periods, bool)
    return averages, nothing.astype(np.int32), nothing
  which = _period_of_dates(dates, len(middles))
  years = _calendar(dates).astype("datetime64[Y]")
  if rule == "reference" and period == "semi-monthly":
    which = np.where(years == years[0], which, num_periods)
  for p in np.unique(which[which < num_periods]):
    averages[p] = values[which == p].mean(0)
  days = _middle_days(years[0], middles, reference_date)
  valid = np.isin(np.arange(num_periods), which)
  days = np.where(valid, days, 0)
  if rule == "reference":
    source = np.maximum.accumulate(np.where(valid, np.arange(num_periods), 0))
    averages, days = averages[source], days[source]
    valid = np.asarray(averages.any((1, 2, 3)))
  return averages, days.astype(np.int32), valid


def _calendar(dates):
  return np.asarray(dates, "int64").astype("datetime64[D]")


def _period_of_dates(dates, num_per_month):
  """Returns the index of each date's period within its year."""
  calendar = _calendar(dates)
  months = calendar.astype("datetime64[M]")
  day = (calendar - months.astype("datetime64[D]")).astype(int) + 1
  is_late = (day > _LAST_DAY_OF_FIRST_HALF) * (num_per_month - 1)
  return months.astype(int) % 12 * num_per_month + is_late


def _middle_days(year, middles, reference_date):
  """Returns days from the reference date to the middle of each period."""
  months = year.astype("datetime64[M]") + np.arange(12)
  first_days = months.astype("datetime64[D]")[:, None]
  days = first_days + (np.asarray(middles) - 1)
  return time_series.days_from_reference(
    days.reshape(-1).astype(np.int64), reference_date
  )
