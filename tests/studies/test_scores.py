"""Intervals and differences against numbers worked out by hand."""

import pandas as pd
import pytest

from flairhub_jax.studies import scores, tables


def estimate(values):
  """The statistics of one group of values."""
  frame = pd.DataFrame({"group": "a", "value": values})
  (row,) = scores.summarise(frame, ["group"]).to_dict("records")
  return row


def difference(values, baseline):
  """Statistics of `values` - `baseline`, both by seed."""
  frame = pd.DataFrame(
    [
      (name, seed, "task", "", "", "miou", value)
      for name, by_seed in (("a", values), ("b", baseline))
      for seed, value in by_seed.items()
    ],
    columns=[
      *("configuration", "seed", "task", "class", "subset", "score", "value")
    ],
  )
  (row,) = scores.differences(frame, [("a", "b", "task")]).to_dict("records")
  return row


def verdict(row):
  return tables.verdicts(pd.DataFrame([row]))[0]


def test_an_estimate_by_hand():
  actual = estimate([40.0, 42.0, 47.0])
  assert actual["runs"] == 3
  assert actual["mean"] == pytest.approx(43.0)
  # Squares 9 + 1 + 16 over n - 1 = 2.
  assert actual["std"] == pytest.approx(13**0.5)
  # Student's t with 2 degrees, 97.5 %: 4.30265 in every printed table.
  half_width = pytest.approx(4.30265 * (13 / 3) ** 0.5, rel=1e-5)
  assert actual["half_width"] == half_width
  assert actual["low"] == pytest.approx(43 - actual["half_width"])
  assert actual["high"] == pytest.approx(43 + actual["half_width"])


@pytest.mark.parametrize(
  "count, quantile",
  [(2, 12.7062), (5, 2.77645), (10, 2.26216), (31, 2.04227)],
)
def test_the_quantile_is_that_of_printed_tables(count, quantile):
  values = [0.0] * (count - 1) + [1.0]
  actual = estimate(values)
  assert actual["half_width"] * count**0.5 / actual["std"] == pytest.approx(
    quantile, rel=1e-5
  )


def test_one_value_has_no_interval():
  actual = estimate([40.0])
  assert (actual["runs"], actual["mean"]) == (1, 40.0)
  for name in ("std", "half_width", "low", "high"):
    assert pd.isna(actual[name])
  assert verdict(actual) == tables.DASH


def test_equal_values_have_an_interval_of_no_length():
  actual = estimate([40.0, 40.0])
  assert actual["low"] == actual["mean"] == actual["high"] == 40.0


def test_differences_are_paired_by_seed():
  actual = difference(
    {1: 41.0, 2: 52.0, 3: 63.0, 9: 0.0}, {3: 60.0, 1: 40.0, 2: 50.0, 7: 99.0}
  )
  # 1, 2, 3: mean 2, std 1; far narrower than either sample's own spread.
  assert [actual[name] for name in ("runs", "mean", "std")] == [3, 2.0, 1.0]
  assert actual["half_width"] == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
  assert verdict(actual) == "undecided"
  actual = difference({1: 1.0}, {2: 1.0})
  assert actual["runs"] == 0 and pd.isna(actual["mean"])


@pytest.mark.parametrize("sign, word", [(1, "higher"), (-1, "lower")])
def test_an_interval_on_one_side_excludes_zero(sign, word):
  assert verdict(estimate([sign * x for x in (9, 10, 11)])) == word
