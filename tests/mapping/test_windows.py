import numpy as np
import pytest

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import windows


def total(axis):
  sums = np.zeros(axis.size)
  for start, weights in zip(axis.starts, axis.weights, strict=True):
    for place, weight in zip(
      range(start, start + axis.window), weights, strict=True
    ):
      if 0 <= place < axis.size:
        sums[place] += weight
      else:
        assert weight == 0
  return sums


@pytest.mark.parametrize("size", [1, 7, 64, 65, 100, 200, 1000])
@pytest.mark.parametrize("overlap", [0, 1, 16, 31, 32, 50, 63])
def test_blended_weights_sum_to_one(size, overlap):
  axis = windows.blended(size, 64, overlap)
  np.testing.assert_allclose(total(axis), 1, atol=1e-6)
  inside = [
    w[max(0, -s) : size - s]
    for s, w in zip(axis.starts, axis.weights, strict=True)
  ]
  assert min(w.min() for w in inside) > 0
  if size >= 64:
    assert axis.starts[0] == 0 and axis.starts[-1] == size - 64


@pytest.mark.parametrize("size", [5, 40, 96, 97, 250])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_each_pixel_has_one_centre(size, is_reversed):
  axis = windows.cropped(size, 64, 12, is_reversed=is_reversed)
  assert (total(axis) == 1).all()
  assert set(np.unique(np.concatenate(axis.weights))) <= {0, 1}
  assert list(axis.starts) == sorted(axis.starts)


def test_later_centres_replace_earlier_ones():
  axis = windows.cropped(100, 64, 12)
  assert axis.starts == (-12, 28, 48)
  assert [int(w.sum()) for w in axis.weights] == [40, 20, 40]
  mirrored = windows.cropped(100, 64, 12, is_reversed=True)
  assert [int(w.sum()) for w in mirrored.weights] == [40, 20, 40]
  assert mirrored.starts == (-12, 8, 48)


def test_rows_are_complete_where_no_later_window_reaches():
  axis = windows.blended(200, 64, 16)
  assert [axis.first_pixel(i) for i in range(5)] == [0, 48, 96, 136, 200]
  cropped = windows.cropped(100, 64, 12)
  assert [cropped.first_pixel(i) for i in range(4)] == [0, 40, 60, 100]


def test_windows_without_step_are_refused():
  with pytest.raises(InputError, match="--overlap: expected 0-63"):
    windows.blended(100, 64, 64)
  with pytest.raises(InputError, match="--margin: expected 0-31"):
    windows.cropped(100, 64, 32)
