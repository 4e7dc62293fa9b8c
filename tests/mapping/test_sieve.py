"""The sieve against a simple one of the whole raster, in rounds of pixels."""

import numpy as np
import pytest
from scipy import ndimage

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import sieve
from tests.mapping import regions
from tests.mapping.regions import COSIA

NUM_CLASSES = 4
MIN_AREAS = (3.0, 8.0, 0.0, 15.0)


def areas_of_pixels(classes, row_areas):
  """Size of the area to which each pixel belongs."""
  sizes = np.zeros(classes.shape)
  for value in range(NUM_CLASSES):
    labels, _ = ndimage.label(classes == value)
    weights = np.repeat(row_areas, classes.shape[1])
    total = np.bincount(labels.ravel(), weights=weights)
    sizes = np.where(classes == value, total[labels], sizes)
  return sizes


def is_small(classes, row_areas):
  limits = np.zeros(256)
  limits[:NUM_CLASSES] = MIN_AREAS
  limits = limits[classes]
  return areas_of_pixels(classes, row_areas) < limits * (1 - 1e-9)


def simple_sieve(classes, row_areas):
  result = np.where(is_small(classes, row_areas), 254, classes)
  while True:
    before = np.pad(result, 1, constant_values=255)
    for row, col in np.argwhere(result == 254):
      around = [before[row, col + 1], before[row + 2, col + 1]]
      around += [before[row + 1, col], before[row + 1, col + 2]]
      around = sorted(value for value in around if value < 254)
      if around:
        result[row, col] = max(around, key=around.count)
    if (result == before[1:-1, 1:-1]).all():
      return np.where(result == 254, classes, result)


def sieved(classes, row_areas, folder, band_pixels):
  (folder / "a.raw").write_bytes(classes.tobytes())
  tool = sieve.Sieve(classes.shape, row_areas, MIN_AREAS, band_pixels)
  tool.run(folder / "a.raw", folder / "b.raw")
  return np.fromfile(folder / "b.raw", np.uint8).reshape(classes.shape)


def speckled(shape, seed):
  """Blocks of classes with noise, and pixels without data."""
  rng = np.random.default_rng(seed)
  noise = ndimage.gaussian_filter(
    rng.normal(size=(NUM_CLASSES, *shape)), [0, 1, 1]
  )
  classes = noise.argmax(0).astype(np.uint8)
  scattered = rng.random(shape) < 0.2
  classes[scattered] = rng.integers(0, NUM_CLASSES, scattered.sum())
  classes[rng.random(shape) < 0.05] = 255
  return classes


@pytest.mark.parametrize("band_pixels", [1, 90, 10**6])
def test_bands_give_the_result_of_the_whole_raster(tmp_path, band_pixels):
  classes = speckled((70, 30), seed=1)
  row_areas = np.linspace(0.8, 1.2, 70)
  result = sieved(classes, row_areas, tmp_path, band_pixels)
  np.testing.assert_array_equal(result, simple_sieve(classes, row_areas))
  np.testing.assert_array_equal(result == 255, classes == 255)
  assert (result != classes).mean() > 0.1


def test_large_areas_are_filled_over_many_passes(tmp_path):
  # Stripes of one pixel, far from what remains.
  classes = np.tile(np.arange(120, dtype=np.uint8)[:, None] % 2, (1, 7))
  classes[:5] = 3
  row_areas = np.ones(120)
  result = sieved(classes, row_areas, tmp_path, band_pixels=70)
  np.testing.assert_array_equal(result, simple_sieve(classes, row_areas))
  assert not is_small(result, row_areas).any()


def test_the_result_has_no_small_area_beside_others(tmp_path):
  classes = speckled((60, 60), seed=2)
  classes[classes == 255] = 2
  row_areas = np.ones(60)
  result = sieved(classes, row_areas, tmp_path, 500)
  assert is_small(classes, row_areas).any()
  assert not is_small(result, row_areas).any()
  again = sieved(result, row_areas, tmp_path, 500)
  np.testing.assert_array_equal(again, result)


def test_areas_of_the_very_size_and_lone_ones_stay(tmp_path):
  classes = np.full((6, 9), 2, np.uint8)
  classes[1, 1:6] = 0  # 5 x 0.6 = 3.0
  classes[:, 7] = 255
  classes[:, 8] = 1  # nothing to fill it from
  result = sieved(classes, np.full(6, 0.6), tmp_path, 9)
  np.testing.assert_array_equal(result, classes)


def test_smallest_areas_by_class():
  task = regions.task()
  name = task.class_names[3]
  areas = sieve.parse([f"{name}=500", "20"], {COSIA: task})[COSIA]
  assert areas[3] == 500 and set(areas[:3] + areas[4:]) == {20}
  for word in ("many", f"{name}=-1", "nan", "inf", "moon=3", "=", f"{name}="):
    with pytest.raises(InputError, match="--min-area: expected"):
      sieve.parse([word], {COSIA: task})
