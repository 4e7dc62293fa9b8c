import numpy as np

from flairhub_jax.data import time_series
from flairhub_jax.schema import QualityMask

MASK = QualityMask(id="MASK", bands=("snow", "cloud"))


def as_days(*dates):
  return np.array(dates, "datetime64[D]").astype(np.int32)


def test_days_are_counted_from_each_dates_own_year():
  days = time_series.days_from_reference(
    as_days("2019-05-15", "2019-05-14", "2020-03-01", "2021-12-31"), "05-15"
  )
  np.testing.assert_array_equal(days, [0, -1, -75, 230])


def test_clear_dates_equal_the_references(origin):
  fixture = origin.arrays("units/filter_time_series")
  settings = [(1, 1, 0.05), (50, 50, 0.05), (0, 0, 0.0), (1, 1, 0.2)]
  compared = 0
  for key in fixture:
    case, name = key.split("/")
    if name == "mask":
      continue
    max_cloud, max_snow, max_cover = settings[int(name[-1])]
    selected = time_series.select_clear_dates(
      np.moveaxis(fixture[f"{case}/mask"], 1, -1),
      MASK,
      max_cloud=max_cloud,
      max_snow=max_snow,
      max_cover=max_cover,
      fallback="snow_free",
    )
    np.testing.assert_array_equal(selected, fixture[key], err_msg=key)
    compared += 1
  assert compared >= 16


def test_bands_of_any_mask_have_the_thresholds_of_their_name():
  mask = QualityMask(id="MASK", bands=("haze", "snow", "shadow"), full=20)
  quality = np.zeros((5, 1, 1, 3), np.uint8)
  quality[1, ..., 0] = 5  # 25 %
  quality[2, ..., 0] = 6
  quality[3, ..., 1] = 5
  quality[4, ..., 2] = 6
  limits = dict(max_cloud=25, max_snow=10, max_cover=0)
  selected = time_series.select_clear_dates(quality, mask, **limits)
  np.testing.assert_array_equal(selected, [True, True, False, False, False])
  # Without a clear date, only snow is asked for.
  selected = time_series.select_clear_dates(
    quality[2:], mask, **limits, fallback="snow_free"
  )
  np.testing.assert_array_equal(selected, [True, False, True])


def test_without_a_clear_date_the_least_covered_one_is_kept():
  mask = np.full((3, 2, 2, 2), 90, np.uint8)
  mask[1, 0, 0] = 0
  selected = time_series.select_clear_dates(
    mask, MASK, max_cloud=1, max_snow=1, max_cover=0.05
  )
  np.testing.assert_array_equal(selected, [False, True, False])


def test_missing_pixels_take_the_median_and_empty_dates_go():
  values = np.ones((3, 2, 2, 1), np.float32)
  values[0, 0, 0, 0] = np.nan
  values[0, 1] = 3.0
  values[2] = np.nan
  kept = time_series.choose_dates(values)
  np.testing.assert_array_equal(kept, [True, True, False])
  filled = time_series.fill_missing_pixels(values[kept])
  assert filled[0, 0, 0, 0] == 3.0
  assert np.isfinite(filled).all()


def test_a_series_longer_than_every_bucket_is_thinned_evenly():
  np.testing.assert_array_equal(time_series.thin(9, 5), [0, 2, 4, 6, 8])
  np.testing.assert_array_equal(time_series.thin(3, 5), [0, 1, 2])


def test_no_pixel_value_is_lost_when_nothing_is_missing():
  values = np.random.default_rng(0).random((4, 3, 3, 2), np.float32)
  assert time_series.fill_missing_pixels(values) is values
  assert time_series.choose_dates(values).all()
