"""Intervals and differences against numbers worked out by hand."""

import pytest

from flairhub_jax.studies import statistics


def test_an_estimate_by_hand():
  found = statistics.estimate([40.0, 42.0, 47.0])
  assert found.count == 3
  assert found.mean == pytest.approx(43.0)
  # Squares 9 + 1 + 16 over n - 1 = 2.
  assert found.std == pytest.approx(13**0.5)
  # Student's t with 2 degrees, 97.5 %: 4.30265 in every printed table.
  assert found.half_width == pytest.approx(4.30265 * (13 / 3) ** 0.5, rel=1e-5)
  assert found.low == pytest.approx(43 - found.half_width)
  assert found.high == pytest.approx(43 + found.half_width)


@pytest.mark.parametrize(
  "count, quantile",
  [(2, 12.7062), (5, 2.77645), (10, 2.26216), (31, 2.04227)],
)
def test_the_quantile_is_that_of_printed_tables(count, quantile):
  values = [0.0] * (count - 1) + [1.0]
  found = statistics.estimate(values)
  assert found.half_width * count**0.5 / found.std == pytest.approx(
    quantile, rel=1e-5
  )


def test_one_value_has_no_interval():
  found = statistics.estimate([40.0])
  assert (found.count, found.mean) == (1, 40.0)
  assert found.std is found.half_width is found.low is found.high is None
  assert found.excludes_zero is None


def test_no_value_is_refused():
  with pytest.raises(ValueError, match="at least one"):
    statistics.estimate([])


def test_differences_are_paired_by_seed():
  found = statistics.paired_difference(
    {1: 41.0, 2: 52.0, 3: 63.0, 9: 0.0}, {3: 60.0, 1: 40.0, 2: 50.0, 7: 99.0}
  )
  # 1, 2, 3: mean 2, std 1; far narrower than either sample's own spread.
  assert (found.count, found.mean, found.std) == (3, 2.0, 1.0)
  assert found.half_width == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
  assert found.excludes_zero is False
  assert statistics.paired_difference({1: 1.0}, {2: 1.0}) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_an_interval_on_one_side_excludes_zero(sign):
  assert statistics.estimate([sign * x for x in (9, 10, 11)]).excludes_zero
