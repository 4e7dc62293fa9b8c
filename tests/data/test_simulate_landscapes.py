"""Which sensor of the simulation separates which classes."""

import numpy as np
import pytest

from flairhub_jax.data.simulation import plan, scene, sensors
from flairhub_jax.data.simulation.land_use import BACKGROUND, cosia, lpis
from flairhub_jax.flair_hub import FLAIR_HUB

TASKS = FLAIR_HUB.tasks


@pytest.fixture(scope="module")
def landscapes():
  rngs = map(np.random.default_rng, range(6))
  return [
    scene.build_scene(rng, (384, 384), 0.8, theme, 300.0)
    for rng, theme in zip(rngs, "UAFNAF", strict=True)
  ]


def balanced_accuracy(one, other):
  """Of a linear discriminant that has seen half of the pixels, equal shares."""
  rng = np.random.default_rng(0)
  count = min(len(one), len(other), 4000)
  assert count >= 100
  one, other = (
    rng.permutation(x.reshape(len(x), -1))[:count].astype(np.float64)
    for x in (one, other)
  )
  half = count // 2
  mean_one, mean_other = one[:half].mean(0), other[:half].mean(0)
  pooled = np.cov(one[:half].T) + np.cov(other[:half].T)
  pooled = np.atleast_2d(pooled) + 1e-6 * np.eye(one.shape[1])
  direction = np.linalg.solve(pooled, mean_one - mean_other)
  threshold = direction @ (mean_one + mean_other) / 2
  above = [(x[half:] @ direction > threshold).mean() for x in (one, other)]
  return (above[0] + 1 - above[1]) / 2


def test_every_scored_class_occurs(landscapes):
  rng = np.random.default_rng(0)
  high = scene.build_scene(rng, (128, 128), 0.8, "N", 1700.0)
  covers = [landscape.cover.ravel() for landscape in (*landscapes, high)]
  assert set(range(15)) <= set(np.concatenate(covers))


@pytest.fixture(scope="module")
def seen(landscapes):
  """Per landscape: the scene, its aerial image, heights above ground."""
  rng = np.random.default_rng(0)
  air = sensors.draw_atmosphere(rng)
  views = []
  for landscape in landscapes:
    image = sensors.aerial(rng, landscape, air)
    surface, terrain = np.moveaxis(sensors.elevation(rng, landscape), -1, 0)
    views.append((landscape, image, (surface - terrain)[..., None]))
  return views


def pixels_of(name, is_grey=False):
  return lambda scene: (scene.cover == cosia(name)) & (scene.is_grey >= is_grey)


@pytest.mark.parametrize(
  ("one", "other", "most_by_colour", "by_height"),
  [
    (
      pixels_of("building", True),
      pixels_of("impervious surface"),
      0.75,
      (0.95, 1),
    ),
    # Shrubs are a little lighter than crowns and their shadows.
    (pixels_of("brushwood"), pixels_of("deciduous"), 0.85, (0.95, 1)),
    (pixels_of("deciduous"), pixels_of("coniferous"), 0.75, (0, 0.75)),
    (pixels_of("plowed land"), pixels_of("bare soil"), 0.75, (0, 0.75)),
  ],
)
def test_colour_confuses_covers_that_height_may_separate(
  seen, one, other, most_by_colour, by_height
):
  def accuracy(n):
    parts = ([v[n][w(v[0])] for v in seen] for w in (one, other))
    return balanced_accuracy(*map(np.concatenate, parts))

  colour, height = accuracy(1), accuracy(2)
  assert colour < most_by_colour
  assert by_height[0] <= height <= by_height[1]


def series_of(parcel, kind, samples=400):
  """Pixels wholly of one cover and crop, over a year, dates as features."""
  rng = np.random.default_rng(1)
  days = np.arange(10, 360, 14)
  shares = np.ones((1, samples, 1), np.float32)
  if kind == "radar":
    series = sensors.sentinel1(rng, [parcel], shares, days, 0.0)
    series = 10 * np.log10(np.nan_to_num(series, nan=0.05))
  else:
    series, _ = sensors.sentinel2(rng, [parcel], shares, days, 100.0)
  return series[:, 0].swapaxes(0, 1)  # [samples, t, c]


def pair(name):
  """Cover and crop: crops grow on agricultural land, maize on plowed too."""
  if name in ("wheat", "barley", "maize", "sunflower"):
    return cosia("agricultural land"), lpis(name)
  return cosia(name), lpis("maize") if "plowed" in name else BACKGROUND


@pytest.mark.parametrize(
  ("one", "other", "kind", "dates"),
  [
    ("deciduous", "coniferous", "optical", slice(0, 3)),
    ("wheat", "maize", "optical", slice(8, 16)),
    ("wheat", "barley", "radar", slice(8, 16)),
    ("maize", "sunflower", "radar", slice(8, 16)),
    ("plowed land", "bare soil", "radar", slice(6, 9)),
  ],
)
def test_the_sensor_that_tells_two_classes_apart(one, other, kind, dates):
  one, other = (
    series_of(pair(n), kind)[:, dates].mean(1) for n in (one, other)
  )
  assert balanced_accuracy(one, other) > 0.85


def test_radar_tells_plowed_from_bare_soil_before_the_crop_is_up():
  accuracy = {}
  for kind in ("optical", "radar"):
    april = (
      series_of(pair(n), kind)[:, 7] for n in ("plowed land", "bare soil")
    )
    accuracy[kind] = balanced_accuracy(*april)
  assert accuracy["optical"] + 0.2 < accuracy["radar"], accuracy


@pytest.mark.parametrize(
  ("one", "other"), [("wheat", "barley"), ("maize", "sunflower")]
)
def test_pairs_of_crops_share_their_spectrum(one, other):
  np.testing.assert_array_equal(
    *(series_of(pair(crop), "optical") for crop in (one, other))
  )


def test_regions_are_named_as_published():
  regions = plan.plan_regions(250)
  assert sum(len(region.patches) for region in regions) == 250
  themes = {r.name[0] for r in regions if r.split == "test"}
  assert themes == set("UAFN")
