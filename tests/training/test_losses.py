import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax import metrics
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError
from flairhub_jax.training import criterion, losses


def test_cross_entropy_equals_the_references(origin):
  fixture = origin.arrays("units/cross_entropy")
  logits = jnp.moveaxis(jnp.asarray(fixture["logits"]), 1, -1)
  truth = jnp.asarray(fixture["targets"])
  weights = jnp.asarray(fixture["weight"])
  loss, gradient = jax.value_and_grad(losses.weighted_cross_entropy)(
    logits, truth, weights
  )
  np.testing.assert_allclose(loss, fixture["loss"], rtol=1e-6)
  np.testing.assert_allclose(
    np.moveaxis(gradient, -1, 1), fixture["grad"], atol=1e-8
  )


def test_labels_stand_for_the_references_one_hot(origin):
  """Values that are no class have no one-hot entry, and count nothing."""
  fixture = origin.arrays("units/labels")
  label = fixture["label"]
  one_hot = np.moveaxis(fixture["onehot"], 0, -1).astype(np.float32)
  assert (label >= 19).any() and one_hot.shape == (8, 8, 19)
  logits = jax.random.normal(jax.random.key(0), (1, 8, 8, 19))
  weights = jnp.linspace(0.5, 2.0, 19)
  loss = losses.weighted_cross_entropy(logits, jnp.asarray(label), weights)
  counted = one_hot * weights
  expected = -(counted * jax.nn.log_softmax(logits[0])).sum() / counted.sum()
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  # The confusion matrix counts the same pixels as the same classes.
  matrix = metrics.confusion_matrix(
    jnp.asarray(label), jnp.zeros((1, 8, 8), jnp.int32), jnp.array([True]), 19
  )
  np.testing.assert_array_equal(matrix[:, 0], one_hot.sum((0, 1)))


def test_a_batch_without_counting_pixels_has_loss_zero_not_nan():
  logits = jnp.ones((1, 2, 2, 3))
  truth = jnp.full((1, 2, 2), 2)
  weights = jnp.array([1.0, 1.0, 0.0])
  loss, gradient = jax.value_and_grad(losses.weighted_cross_entropy)(
    logits, truth, weights
  )
  assert loss == 0
  assert not gradient.any()


def test_labels_beyond_the_classes_count_nothing():
  logits = jax.random.normal(jax.random.key(0), (1, 1, 2, 3))
  weights = jnp.ones(3)
  both = losses.weighted_cross_entropy(logits, jnp.array([[[1, 255]]]), weights)
  one = losses.weighted_cross_entropy(
    logits[:, :, :1], jnp.array([[[1]]]), weights
  )
  np.testing.assert_allclose(both, one, rtol=1e-6)


def test_auxiliary_losses_enter_the_sum_with_their_weight():
  logits = {
    name: jax.random.normal(jax.random.key(i), (1, 2, 2, 3))
    for i, name in enumerate("abc")
  }
  truth = {"task": jnp.array([[[0, 1], [2, 1]]])}
  weights = {"task": jnp.ones(3)}
  total, parts = criterion.total_loss(
    {
      "logits": {"task": logits["a"]},
      "aux": {"x": {"task": logits["b"]}, "y": {"task": logits["c"]}},
    },
    truth,
    weights,
    {"task": 2.0},
    {"x": 1.5, "y": 0.5},
  )
  one = {
    name: losses.weighted_cross_entropy(x, truth["task"], weights["task"])
    for name, x in logits.items()
  }
  auxiliary = (1.5 * one["b"] + 0.5 * one["c"]) / 2
  expected = 2 * (one["a"] + auxiliary)
  np.testing.assert_allclose(total, expected, rtol=1e-6)
  np.testing.assert_allclose(parts["task/aux"], auxiliary, rtol=1e-6)


def test_learned_uncertainties_weigh_the_tasks():
  rng = np.random.default_rng(0)
  logits = {
    t: jnp.asarray(rng.standard_normal((1, 2, 2, 3)), jnp.float32)
    for t in ("a", "b")
  }
  truth = {t: jnp.asarray(rng.integers(0, 3, (1, 2, 2))) for t in logits}
  weights = {t: jnp.ones(3) for t in logits}
  task_weights = {"a": 1.0, "b": 3.0}
  outputs = {"logits": logits, "aux": {}}
  log_variance = {"a": jnp.float32(0.0), "b": jnp.float32(np.log(2.0))}
  total, parts = criterion.total_loss(
    outputs | {"log_variance": log_variance}, truth, weights, task_weights, {}
  )
  _, plain = criterion.total_loss(outputs, truth, weights, task_weights, {})
  expected = plain["a"] + 3 * (plain["b"] / 2 + np.log(2) / 2)
  np.testing.assert_allclose(total, expected, rtol=1e-6)
  np.testing.assert_allclose(parts["b/log_variance"], np.log(2), rtol=1e-6)


# ---- losses besides cross entropy -------------------------------------------

NUM_CLASSES = 5


@pytest.fixture(scope="module")
def drawn():
  """Logits, labels of which some are no class, and weights with a zero."""
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 6, 7, NUM_CLASSES)).astype(np.float32)
  labels = rng.integers(0, NUM_CLASSES - 1, (2, 6, 7)).astype(np.uint8)
  labels[0, 0, :3] = 255
  weights = np.array([1.0, 0.5, 2.0, 0.0, 1.0], np.float32)
  return logits, labels, weights


def pixels_of(logits, labels, weights):
  """Probabilities, class and weight of each pixel that counts, in float64."""
  is_class = labels < NUM_CLASSES
  scores = np.exp(logits[is_class].astype(np.float64))
  truth = labels[is_class].astype(int)
  keep = weights[truth] > 0
  p = scores / scores.sum(-1, keepdims=True)
  return p[keep], truth[keep], weights[truth][keep].astype(np.float64)


def test_smoothing_spreads_a_share_of_each_label(drawn):
  p, truth, weight = pixels_of(*drawn)
  weights = drawn[2].astype(np.float64)
  true = (weight * -np.log(p[range(len(p)), truth])).sum() / weight.sum()
  spread = (-np.log(p) @ weights).sum() / weight.sum()
  actual = losses.weighted_cross_entropy(
    *map(jnp.asarray, drawn), label_smoothing=0.1
  )
  expected = 0.9 * true + 0.1 / NUM_CLASSES * spread
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_focal_loss_is_cross_entropy_of_the_doubtful(drawn):
  p, truth, weight = pixels_of(*drawn)
  p = p[range(len(p)), truth]
  expected = (weight * (1 - p) ** 1.5 * -np.log(p)).sum() / weight.sum()
  actual = losses.focal(*map(jnp.asarray, drawn), gamma=1.5)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
  plain = losses.weighted_cross_entropy(*map(jnp.asarray, drawn))
  np.testing.assert_allclose(
    losses.focal(*map(jnp.asarray, drawn), gamma=0.0), plain, rtol=1e-5
  )


def test_dice_by_its_definition(drawn):
  p, truth, _ = pixels_of(*drawn)
  shares = [
    2 * p[truth == c, c].sum() / (p[:, c].sum() + (truth == c).sum())
    for c in np.unique(truth)
  ]
  np.testing.assert_allclose(
    losses.dice(*map(jnp.asarray, drawn)), 1 - np.mean(shares), rtol=1e-5
  )


def test_lovasz_by_its_definition(drawn):
  """Abel's sum over the thresholds: each set of worst errors has its IoU."""
  p, truth, _ = pixels_of(*drawn)
  by_class = []
  for c in np.unique(truth):
    errors = np.abs((truth == c) - p[:, c])
    order = np.argsort(-errors)
    wrong, costs = np.zeros(len(p), bool), [0.0]
    for pixel in order:
      wrong[pixel] = True
      predicted = (truth == c) ^ wrong
      both = (predicted & (truth == c)).sum()
      either = (predicted | (truth == c)).sum()
      costs.append(1 - both / either)
    by_class.append((errors[order] * np.diff(costs)).sum())
  np.testing.assert_allclose(
    losses.lovasz(*map(jnp.asarray, drawn)), np.mean(by_class), rtol=1e-5
  )


@pytest.mark.parametrize("loss", [losses.dice, losses.lovasz])
def test_losses_of_certain_predictions_equal_their_scores(loss):
  truth = np.array([[[0, 0, 0, 1, 1, 2]]])
  guess = np.array([[[0, 0, 1, 1, 2, 2]]])
  logits = 100.0 * np.eye(3, dtype=np.float32)[guess]
  iou = np.array([2 / 3, 1 / 3, 1 / 2])
  score = 2 * iou / (1 + iou) if loss is losses.dice else iou
  actual = loss(jnp.asarray(logits), jnp.asarray(truth), jnp.ones(3))
  np.testing.assert_allclose(actual, 1 - score.mean(), rtol=1e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_ignored_pixels_and_classes_have_no_gradient(drawn, name):
  logits, labels, weights = drawn
  settings = base.get_config().loss
  settings.cross_entropy.update(weight=0.0, label_smoothing=0.1)
  settings[name].weight = 2.0
  loss = losses.build_loss(settings)
  value, gradient = jax.value_and_grad(loss)(*map(jnp.asarray, drawn))
  gradient = np.asarray(gradient)
  counts = (labels < NUM_CLASSES) & (weights[labels % NUM_CLASSES] > 0)
  assert np.isfinite(value) and value > 0
  assert np.isfinite(gradient).all()
  assert np.abs(gradient).max(-1)[counts].min() > 0
  assert not gradient[~counts].any()
  nothing = jax.value_and_grad(loss)(
    jnp.asarray(logits), jnp.asarray(labels), jnp.zeros(NUM_CLASSES)
  )
  assert not any(np.any(x) for x in nothing)


def test_losses_are_summed_with_their_weights(drawn):
  settings = base.get_config().loss
  settings.cross_entropy.weight, settings.lovasz.weight = 0.25, 0.5
  expected = 0.25 * losses.weighted_cross_entropy(*map(jnp.asarray, drawn))
  expected += 0.5 * losses.lovasz(*map(jnp.asarray, drawn))
  actual = losses.build_loss(settings)(*map(jnp.asarray, drawn))
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_every_loss_has_a_section_and_takes_its_options(drawn):
  settings = base.get_config().loss
  assert set(settings) == set(losses.LOSSES)
  for name in settings:
    settings[name].weight = 1.0
  assert list(losses.weighted(settings)) == list(losses.LOSSES)
  assert np.isfinite(losses.build_loss(settings)(*map(jnp.asarray, drawn)))


@pytest.mark.parametrize("name", losses.LOSSES)
def test_additive_losses_add_over_parts_of_a_batch(drawn, name):
  logits, labels, weights = map(jnp.asarray, drawn)
  kind, options = losses.LOSSES[name], dict(base.get_config().loss[name])
  del options["weight"]
  parts = [(logits[i : i + 1], labels[i : i + 1]) for i in range(len(logits))]
  whole = kind.function(logits, labels, weights, **options)
  if kind.is_additive:
    options["total"] = losses.total_weight(labels, weights)
  total = sum(kind.function(*part, weights, **options) for part in parts)
  assert np.isclose(total, whole, rtol=1e-5) == kind.is_additive


def test_a_loss_without_any_weight_is_refused():
  settings = base.get_config().loss
  settings.cross_entropy.weight = 0.0
  with pytest.raises(InputError, match=r"config\.loss"):
    losses.build_loss(settings)


def test_balanced_weights_stay_finite():
  config = base.get_config()
  config.tasks["AERIAL_LABEL-COSIA"].frequency_power = 10.0
  counts = {"AERIAL_LABEL-COSIA": [10**12] * 18 + [1]}
  config.tasks["AERIAL_LABEL-COSIA"].class_weights = (1.0,) * 19
  with pytest.raises(InputError, match="frequency_power"):
    criterion.build_criterion(config, counts)


def test_rare_classes_can_weigh_more():
  weights, counts = (1.0, 2.0, 0.0, 1.0), (100, 400, 1, 0)
  assert criterion.balance(weights, counts, 0.0) == weights
  assert criterion.balance(weights, (), 1.0) == weights
  # The median of 100 and 400 is 250.
  np.testing.assert_allclose(
    criterion.balance(weights, counts, 1.0), (2.5, 1.25, 0.0, 1.0)
  )
  np.testing.assert_allclose(
    criterion.balance(weights, counts, 0.5),
    (2.5**0.5, 2 * 0.625**0.5, 0.0, 1.0),
  )
