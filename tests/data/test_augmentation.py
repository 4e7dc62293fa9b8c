"""Augmentations: what they change, what they leave, what is refused."""

import jax
import numpy as np
import pytest

from flairhub_jax import configuration
from flairhub_jax.configs import base
from flairhub_jax.data import augmentation, pipeline, records, transforms
from flairhub_jax.errors import InputError

AERIAL, S2, COSIA = "AERIAL_RGBI", "SENTINEL2_TS", "AERIAL_LABEL-COSIA"
ALL = ("crop", "symmetry", "colour", "noise", "dates")
# By the version of 2026 that had symmetries only, seeds 0 to 11.
DRAWN = ("3120 2031 3210 3210 0123 0123 1032 0123 2301 2301 2301 3210").split()


@pytest.fixture(scope="module")
def dataset(converted):
  return records.load_dataset(converted)


def configure(*names, **sections):
  config = base.get_config()
  config.data.modalities = (AERIAL, S2)
  config.data.augment = names
  for section, changes in sections.items():
    config.data.augmentation[section].update(changes)
  # As a run reads it from its file.
  return configuration.from_json(configuration.to_json(config))


def make(dataset, *names, **sections):
  return augmentation.build_augmentation(configure(*names, **sections), dataset)


def draw(augment, example, count=40):
  """Examples of different seeds; the one given must not change."""
  before = jax.tree.map(np.array, example)
  drawn = [augment(example, np.random.default_rng(i)) for i in range(count)]
  jax.tree.map(np.testing.assert_array_equal, example, before)
  return drawn


def example(num_dates=6):
  """A patch whose values tell where on the ground a pixel is."""
  fine = np.arange(64 * 64).reshape(64, 64) % 251
  coarse = np.arange(100).reshape(10, 10)
  series = np.tile(coarse[None, ..., None], (num_dates, 1, 1, 10))
  days = np.arange(num_dates, dtype=np.int32)
  return {
    "inputs": {
      AERIAL: np.stack([fine] * 4, -1).astype(np.uint8),
      S2: (series + 100 * days[:, None, None, None]).astype(np.uint16),
    },
    "dates": {S2: days},
    "valid": {S2: np.ones(num_dates, bool)},
    "present": {AERIAL: np.True_, S2: np.True_},
    "labels": {COSIA: fine.astype(np.uint8)},
    "patch": np.int32(0),
    "sample_mask": np.True_,
  }


def test_draws_of_symmetries_are_those_of_earlier_versions(dataset):
  """A run that an earlier version began continues bit for bit."""
  labels = {"t": np.arange(4, dtype=np.uint8).reshape(2, 2)}
  moved = draw(make(dataset, "symmetry"), {"inputs": {}, "labels": labels}, 12)
  assert ["".join(map(str, x["labels"]["t"].ravel())) for x in moved] == DRAWN


def test_crops_show_the_same_ground_on_every_grid(dataset):
  augment = make(dataset, "crop")
  whole, corners = example()["inputs"][AERIAL], set()
  for moved in draw(augment, example()):
    image, series = moved["inputs"][AERIAL], moved["inputs"][S2]
    assert image.shape == (32, 32, 4) and series.shape == (6, 5, 5, 10)
    np.testing.assert_array_equal(image[..., 0], moved["labels"][COSIA])
    row, column = divmod(int(series[0, 0, 0, 0]), 10)
    top, left = 32 * row // 5, 32 * column // 5
    np.testing.assert_array_equal(
      image, whole[top : top + 32, left : left + 32]
    )
    corners.add((row, column))
  assert corners == {(0, 0), (0, 5), (5, 0), (5, 5)}
  assert augment.output_size((64, 64)) == (32, 32)
  batch = jax.tree.map(lambda x: np.stack([x, x]), example())
  resized = augment.resize(batch)
  assert resized["inputs"][AERIAL].shape == (2, 32, 32, 4)
  assert resized["inputs"][S2].shape == (2, 6, 5, 5, 10)
  assert resized["labels"][COSIA].shape == (2, 32, 32)


def test_crops_of_one_grid_may_have_any_number_of_pixels(dataset):
  config = configure("crop", crop=dict(fraction=21 / 64)).unlock()
  config.data.modalities = (AERIAL,)
  augment = augmentation.build_augmentation(config, dataset)
  start = example()
  del start["inputs"][S2]
  drawn = draw(augment, start)
  assert {x["labels"][COSIA].shape for x in drawn} == {(21, 21)}
  assert len({x["labels"][COSIA].tobytes() for x in drawn}) > 30


@pytest.fixture
def colours(dataset):
  """Draws values of a patch of grey to bright pixels, and those before."""
  start = example()
  values = np.random.default_rng(0).integers(60, 180, (64, 64, 4))
  start["inputs"][AERIAL] = values.astype(np.uint8)

  def drawn(**changes):
    section = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0)
    section |= {"sensors": (AERIAL,), **changes}
    section = {k: float(v) if v == 0 else v for k, v in section.items()}
    moved = draw(make(dataset, "colour", colour=section), start)
    assert all(x["inputs"][S2] is start["inputs"][S2] for x in moved)
    assert all(x["inputs"][AERIAL].dtype == np.uint8 for x in moved)
    return [x["inputs"][AERIAL].astype(float) for x in moved]

  return values, drawn


def test_brightness_and_contrast_change_within_their_limits(colours):
  values, drawn = colours
  for image in drawn():
    np.testing.assert_array_equal(image, values)
  factors = [image.mean() / values.mean() for image in drawn(brightness=0.3)]
  assert 0.69 <= min(factors) < 0.8 and 1.2 < max(factors) <= 1.31
  images = drawn(contrast=0.3)
  for image in images:
    np.testing.assert_allclose(image.mean((0, 1)), values.mean((0, 1)), atol=1)
  spreads = [image.std() / values.std() for image in images]
  assert 0.69 <= min(spreads) < 0.8 and 1.2 < max(spreads) <= 1.31


@pytest.mark.parametrize("changes", [dict(saturation=0.4), dict(hue=0.05)])
def test_saturation_and_hue_keep_luma_and_infrared(colours, changes):
  values, drawn = colours
  largest = []
  for image in drawn(**changes):
    errors = (image - values)[..., :3] @ np.array([0.299, 0.587, 0.114])
    # Clipped values change the luma; few are.
    assert np.median(np.abs(errors)) < 0.5
    np.testing.assert_array_equal(image[..., 3], values[..., 3])
    largest.append(np.abs(image - values).max())
  assert max(largest) > 15


def test_hue_and_saturation_are_a_turn_and_a_factor_of_colour():
  whole_turn = transforms.colour_matrix(1.0, 1.0)
  np.testing.assert_allclose(whole_turn, np.eye(3), atol=1e-9)
  grey = transforms.colour_matrix(0.0, 0.0) @ np.array([10.0, 20.0, 30.0])
  np.testing.assert_allclose(grey, [18.15] * 3, atol=0.1)
  turned = transforms.colour_matrix(1.0, 0.25) @ np.array([100.0, 100, 100])
  np.testing.assert_allclose(turned, [100.0] * 3, atol=0.1)


def test_values_stay_in_the_range_of_their_type(dataset):
  augment = make(
    dataset,
    "colour",
    "noise",
    colour=dict(sensors=(AERIAL, S2), brightness=0.9),
    noise=dict(sensors=(AERIAL,), deviation=1.0),
  )
  start = example()
  start["inputs"][AERIAL][:32] = 250
  start["inputs"][AERIAL][32:] = 50
  for moved in draw(augment, start, 10):
    image = moved["inputs"][AERIAL]
    assert image.dtype == np.uint8
    assert moved["inputs"][S2].dtype == np.uint16
    # Values beyond the range do not wrap around.
    assert image[:32].mean() > image[32:].mean()


def test_noise_is_in_standard_deviations_of_the_band(dataset):
  augment = make(dataset, "noise", noise=dict(sensors=(AERIAL,), deviation=0.2))
  start = example()
  start["inputs"][AERIAL][:] = 128
  moved = draw(augment, start, 1)[0]["inputs"][AERIAL].astype(float)
  std = np.array([52.23, 45.62, 44.30, 39.78])
  np.testing.assert_allclose(moved.std((0, 1)), 0.2 * std, rtol=0.05)
  assert np.abs(moved.mean((0, 1)) - 128).max() < 1


def test_dates_are_dropped_but_never_all(dataset):
  augment = make(dataset, "dates", dates=dict(probability=0.5))
  lengths = []
  for moved in draw(augment, example()):
    days = moved["dates"][S2]
    lengths.append(len(days))
    assert len(moved["valid"][S2]) == len(days)
    np.testing.assert_array_equal(
      moved["inputs"][S2], example()["inputs"][S2][days]
    )
  assert 2 < np.mean(lengths) < 4 and len(set(lengths)) > 3
  almost = make(dataset, "dates", dates=dict(probability=0.999))
  assert {len(x["dates"][S2]) for x in draw(almost, example())} == {1}
  start = example()
  start["valid"][S2][:4] = False  # as averages over time have
  assert all(x["valid"][S2].any() for x in draw(almost, start))


def augment_by_all(dataset):
  sensors = dict(sensors=(AERIAL, S2))
  noise = dict(sensors=(AERIAL,))
  return make(dataset, *ALL, colour=sensors, noise=noise)


def test_a_patch_without_a_sensor_stays_without_it(dataset):
  start = example(num_dates=0)
  start["inputs"][AERIAL] = np.zeros_like(start["inputs"][AERIAL])
  start["present"] = {AERIAL: np.False_, S2: np.False_}
  for moved in draw(augment_by_all(dataset), start, 5):
    assert not moved["inputs"][AERIAL].any()
    assert moved["inputs"][S2].shape == (0, 5, 5, 10)


@pytest.mark.parametrize(
  ("names", "sections", "message"),
  [
    (("blur",), {}, "config.data.augment: expected any of crop, .*'blur'"),
    (("crop", "crop"), {}, "each once, found 'crop' twice"),
    (("crop",), dict(crop=dict(fraction=0.3)), r"k/2, k from 1 to 1.* 0\.3"),
    (("colour",), {}, r"colour\.sensors: expected any of AERIAL.*found none"),
    (("colour",), dict(colour=dict(sensors=("X",))), "colour.sensors.*'X'"),
    (("noise",), dict(noise=dict(sensors=("DEM_ELEV",))), "found DEM_ELEV"),
    (("noise",), dict(noise=dict(sensors=(S2,))), "SENTINEL2_TS without"),
  ],
)
def test_impossible_augmentations_are_refused(dataset, names, sections, message):
  with pytest.raises(InputError, match=message) as caught:
    make(dataset, *names, **sections)
  assert len(str(caught.value).splitlines()) == 1


def test_dates_without_a_series_are_refused(dataset):
  config = configure("dates").unlock()
  config.data.modalities = (AERIAL,)
  with pytest.raises(InputError, match="dates with a series"):
    augmentation.build_augmentation(config, dataset)


def test_a_batch_depends_on_seed_and_number_only(dataset):
  options = pipeline.build_read_options(configure())
  reader = pipeline.PatchReader(dataset, "train", options)
  augment = augment_by_all(dataset)

  def batches(count, **changes):
    given = dict(batch_size=4, seed=3, augment=augment) | changes
    iterator = pipeline.train_batches(reader, **given)
    found = [jax.tree.map(np.array, next(iterator)) for _ in range(count)]
    iterator.close()
    return found

  expected = batches(3)
  equal = np.testing.assert_array_equal
  jax.tree.map(equal, batches(1, start_step=2)[0], expected[2])
  jax.tree.map(equal, batches(3, num_workers=2), expected)
  part = batches(3, batch_size=2, process=(1, 2))
  own = jax.tree.map(lambda x: x[2:], expected)
  jax.tree.map(equal, part, own)
  image = batches(1, seed=4)[0]["inputs"][AERIAL]
  assert not np.array_equal(image, expected[0]["inputs"][AERIAL])
