"""Symmetries and subsets of dates, with networks of known results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import augmentation
from flairhub_jax.mapping.augmentation import Augmentation

SYMMETRIES = Augmentation(with_symmetries=True)


def test_reflections_pass_through_all_symmetries_and_return():
  image = np.arange(32, dtype=np.int32).reshape(2, 4, 4, 1)
  series = np.arange(48, dtype=np.int32).reshape(1, 3, 4, 4, 1)
  forms, state = [], (image, series)
  for number in range(8):
    forms.append(np.asarray(state[0]).tobytes())
    state = augmentation.reflect(state, number)
  turned = {
    np.ascontiguousarray(np.rot90(x, k, (1, 2))).tobytes()
    for x in (image, image[:, :, ::-1])
    for k in range(4)
  }
  assert set(forms) == turned and len(turned) == 8
  np.testing.assert_array_equal(state[0], image)
  np.testing.assert_array_equal(state[1], series)


def batch_of(values):
  return {"inputs": {"A": values}, "present": {"A": np.ones(1, bool)}}


def test_symmetries_change_nothing_of_a_network_of_pixels():
  values = np.random.default_rng(0).integers(0, 256, (1, 5, 5, 3), np.uint8)
  average = jax.jit(
    lambda batch: SYMMETRIES.average(
      lambda b: {"task": b["inputs"]["A"].astype(jnp.float32)}, batch
    )
  )
  # Sums of eight equal integers are exact.
  np.testing.assert_array_equal(average(batch_of(values))["task"], values)


def test_symmetries_average_what_a_network_sees_in_each():
  values = np.random.default_rng(0).random((1, 6, 6, 2)).astype(np.float32)
  slope = np.arange(6, dtype=np.float32)[:, None, None]

  def forward(batch):
    x = batch["inputs"]["A"]
    return {"task": x * slope + jnp.roll(x, 1, 2)}

  expected = np.zeros_like(values)
  for k in range(4):
    for flips in (False, True):
      x = values[:, :, ::-1] if flips else values
      result = np.asarray(
        forward(batch_of(np.rot90(x, k, (1, 2)).copy()))["task"]
      )
      result = np.rot90(result, -k, (1, 2))
      expected += result[:, :, ::-1] if flips else result
  actual = SYMMETRIES.average(forward, batch_of(values))["task"]
  np.testing.assert_allclose(actual, expected / 8, rtol=1e-6)


def series_of(valid):
  valid = np.array(valid, bool)
  dates = np.tile(np.arange(valid.shape[1], dtype=np.int32), (len(valid), 1))
  values = np.float32(dates)[:, :, None, None, None] * np.ones((1, 1, 2, 2, 3))
  return {
    "inputs": {"S": values.astype(np.float32), "A": np.zeros((len(valid), 4))},
    "dates": {"S": dates},
    "valid": {"S": valid},
  }


@pytest.mark.parametrize(
  ("valid", "subsets"),
  [
    ([1, 1, 1, 1, 1, 1], [[0, 2, 4], [1, 3, 5]]),
    ([1, 1, 1, 1, 1, 0], [[0, 2, 4], [1, 3]]),
    ([0, 1, 1, 0, 1, 0], [[1, 4], [2]]),
    ([0, 1, 0, 0, 0, 0], [[1], [1]]),
    ([0, 0, 0, 0, 0, 0], [[], []]),
  ],
)
def test_subsets_of_dates_interleave(valid, subsets):
  batch = series_of([valid, [1] * 6])
  for number, expected in enumerate(subsets):
    subset = augmentation.take_dates(batch, number, 2)
    is_valid = np.asarray(subset["valid"]["S"][0])
    assert is_valid.shape == (3,)
    dates = np.asarray(subset["dates"]["S"][0])
    np.testing.assert_array_equal(dates[is_valid], expected)
    np.testing.assert_array_equal(
      subset["inputs"]["S"][0, :, 1, 1, 2], dates.astype(np.float32)
    )
    assert subset["inputs"]["A"] is batch["inputs"]["A"]


def test_symmetries_and_subsets_of_dates_are_averaged_together():
  batch = series_of([[1, 1, 1, 1, 1, 0]])
  batch["inputs"]["A"] = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)

  def forward(batch):
    days = batch["dates"]["S"] * batch["valid"]["S"]
    mean = days.sum(1) / batch["valid"]["S"].sum(1)
    return batch["inputs"]["A"] * mean[:, None, None, None]

  actual = Augmentation(True, 2).average(forward, batch)
  np.testing.assert_allclose(actual, batch["inputs"]["A"] * 2, rtol=1e-6)


def test_windows_must_have_these_forms():
  SYMMETRIES.check([(32, 32), (8, 8)], {})
  with pytest.raises(
    InputError, match=r"--tta: expected square .* 8 x 4 pixel"
  ):
    SYMMETRIES.check([(32, 32), (8, 4)], {})
  Augmentation(date_subsets=3).check([(8, 4)], {"S": 3})
  for subsets, lengths, line in (
    (4, {"S": 3}, "expected 1-3, the dates of a series, found 4"),
    (0, {"S": 3}, "found 0"),
    (2, {}, "expected a time series, found images alone"),
  ):
    with pytest.raises(InputError, match=line):
      Augmentation(date_subsets=subsets).check([], lengths)
