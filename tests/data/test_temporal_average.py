import numpy as np
import pytest

from flairhub_jax.configs import base
from flairhub_jax.data import (
  pipeline,
  records,
  temporal_average,
  time_series,
)
from flairhub_jax.errors import InputError
from flairhub_jax.schema import QualityMask

RULES = ("observed", "reference")
MASK = QualityMask(id="MASK", bands=("snow", "cloud"))


def as_days(*dates):
  return np.array(dates, "datetime64[D]").astype(np.int32)


def images(*numbers, dtype=np.float32):
  """One pixel of one band per date."""
  return np.array(numbers, dtype).reshape(-1, 1, 1, 1)


def average(values, dates, period="monthly", rule="observed", since="05-15"):
  return temporal_average.average_periods(
    values, dates, period=period, rule=rule, reference_date=since
  )


@pytest.fixture(scope="module")
def fixture_cases(origin):
  """(key, values, dates, period, reference day, averages, days) of each."""
  notes = origin.settings("units/units")["temporal_average"]
  numbers = origin.arrays("units/temporal_average")
  cases = []
  for key in numbers:
    if not key.endswith("/out"):
      continue
    name, dtype, period, since, _ = key.split("/")
    text = [f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in notes["dates"][name]]
    values = np.moveaxis(numbers[f"{name}/{dtype}/data"], 1, -1)
    averages = np.moveaxis(numbers[key], 1, -1).astype(np.float32)
    days = numbers[key.replace("/out", "/diff")]
    cases.append((key, values, as_days(*text), period, since, averages, days))
  return cases


def test_the_references_rule_equals_the_references(fixture_cases):
  for key, values, dates, period, since, averages, days in fixture_cases:
    actual = average(values, dates, period, "reference", since)
    np.testing.assert_array_equal(actual[0], averages, err_msg=key)
    np.testing.assert_array_equal(actual[1], days, err_msg=key)
    is_zero = ~averages.any((1, 2, 3))
    np.testing.assert_array_equal(actual[2], ~is_zero, err_msg=key)
    assert actual[0].dtype == np.float32 and actual[1].dtype == np.int32
  assert len(fixture_cases) == 32


def test_both_rules_agree_on_what_a_year_shows(fixture_cases):
  compared = 0
  for key, values, dates, period, since, averages, days in fixture_cases:
    if key.startswith("two_years"):
      continue
    actual = average(values, dates, period, "observed", since)
    valid = actual[2]
    np.testing.assert_array_equal(actual[0][valid], averages[valid], key)
    np.testing.assert_array_equal(actual[1][valid], days[valid], key)
    assert not actual[0][~valid].any() and not actual[1][~valid].any()
    months = dates.astype("datetime64[D]").astype("datetime64[M]")
    later = dates >= (months + np.timedelta64(15, "D")).astype(np.int32)
    halves = 2 * months.astype(int) + later
    observed = months if period == "monthly" else halves
    assert valid.sum() == len(np.unique(observed))
    compared += 1
  assert compared == 24


def test_a_period_is_averaged_over_all_years_where_observed():
  dates = as_days("2021-03-16", "2020-03-31", "2020-03-15", "2021-12-01")
  averages, days, valid = average(
    images(2, 4, 10, 7, dtype=np.uint16), dates, "semi-monthly"
  )
  np.testing.assert_array_equal(np.flatnonzero(valid), [4, 5, 22])
  np.testing.assert_array_equal(averages[valid].ravel(), [10, 3, 7])
  # 8 and 23 March, 8 December, from 15 May.
  np.testing.assert_array_equal(days[valid], [-68, -53, 207])


def test_half_months_of_the_reference_are_those_of_the_first_dates_year():
  dates = as_days("2021-03-16", "2020-03-31", "2021-05-01")
  averages, days, valid = average(
    images(2, 4, 10), dates, "semi-monthly", "reference"
  )
  np.testing.assert_array_equal(averages.ravel(), [0] * 5 + [2] * 3 + [10] * 16)
  np.testing.assert_array_equal(days, [0] * 5 + [-53] * 3 + [-7] * 16)
  np.testing.assert_array_equal(valid, np.arange(24) >= 5)


@pytest.mark.parametrize("rule", RULES)
def test_of_no_dates_all_periods_are_padding(rule):
  nothing = np.zeros((0, 2, 2, 3), np.uint16)
  averages, days, valid = average(nothing, as_days(), rule=rule)
  assert averages.shape == (12, 2, 2, 3) and averages.dtype == np.float32
  assert days.shape == (12,) and days.dtype == np.int32
  assert valid.shape == (12,) and valid.dtype == bool
  assert not averages.any() and not days.any() and not valid.any()


# ---- in batches --------------------------------------------------------------


def averaging_config(**changes):
  config = base.get_config()
  config.data.modalities = (
    "AERIAL_RGBI",
    "SENTINEL2_TS",
    "SENTINEL1-ASC_TS",
  )
  config.data.date_buckets = (12, 64)
  config.inputs["SENTINEL2_TS"].temporal_average = "monthly"
  config.data.update(changes)
  return config


def batch_of(converted, config):
  options = pipeline.build_read_options(config)
  reader = pipeline.PatchReader(
    records.load_dataset(converted), "train", options
  )
  return next(pipeline.evaluation_batches(reader, batch_size=3))


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_holds_averages_of_clear_dates(converted, rule):
  batch = batch_of(converted, averaging_config(averaging=rule))
  name = "SENTINEL2_TS"
  assert batch["inputs"][name].shape == (3, 12, 10, 10, 10)
  assert batch["inputs"][name].dtype == np.float32
  stream = records.load_dataset(converted).open_stream("train", name)
  for row, patch in enumerate(batch["patch"].tolist()):
    record = stream[patch]
    clear = time_series.select_clear_dates(
      record["quality"], MASK, max_cloud=1, max_snow=1, max_cover=0.05
    )
    assert 0 < clear.sum() < len(clear)
    months = record["dates"].astype("datetime64[D]").astype("datetime64[M]")
    months = months.astype(int)[clear] % 12
    for month in np.unique(months):
      expected = record["values"][clear][months == month].mean(0)
      actual = batch["inputs"][name][row, month]
      np.testing.assert_array_equal(actual, expected.astype(np.float32))
    valid = batch["valid"][name][row]
    if rule == "observed":
      np.testing.assert_array_equal(np.flatnonzero(valid), np.unique(months))
      assert not batch["inputs"][name][row][~valid].any()
    else:
      np.testing.assert_array_equal(valid, np.arange(12) >= months.min())


def test_other_series_keep_their_dates(converted):
  config = averaging_config()
  averaged = batch_of(converted, config)
  config.inputs["SENTINEL2_TS"].temporal_average = "none"
  plain = batch_of(converted, config)
  for key in ("inputs", "dates", "valid"):
    name = "SENTINEL1-ASC_TS"
    np.testing.assert_array_equal(averaged[key][name], plain[key][name])


@pytest.mark.parametrize(
  ("field", "expected"),
  [
    ("config.data.averaging", "observed or reference"),
    (
      "config.inputs.SENTINEL2_TS.temporal_average",
      "none, monthly or semi-monthly",
    ),
  ],
)
def test_unknown_averages_are_named(field, expected):
  config = averaging_config()
  if field.startswith("config.data"):
    config.data.averaging = "weekly"
  else:
    config.inputs["SENTINEL2_TS"].temporal_average = "weekly"
  with pytest.raises(InputError) as error:
    pipeline.build_read_options(config)
  assert str(error.value) == f"{field}: expected {expected}, found 'weekly'"
