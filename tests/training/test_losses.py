import jax
import jax.numpy as jnp
import numpy as np

from flairhub_jax import metrics
from flairhub_jax.training import losses


def test_cross_entropy_equals_the_references(shared):
  fixture = np.load(shared / "parity/units/cross_entropy.npz")
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


def test_labels_stand_for_the_references_one_hot(shared):
  """Values that are no class have no one-hot entry, and count nothing."""
  fixture = np.load(shared / "parity/units/labels.npz")
  label, one_hot = fixture["label"], np.moveaxis(fixture["onehot"], 0, -1)
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
  total, parts = losses.total_loss(
    {
      "logits": {"task": logits["a"]},
      "aux": {"x": {"task": logits["b"]}, "y": {"task": logits["c"]}},
    },
    truth,
    weights,
    {"task": 2.0},
    1.5,
  )
  one = {
    name: losses.weighted_cross_entropy(x, truth["task"], weights["task"])
    for name, x in logits.items()
  }
  expected = 2 * (one["a"] + 1.5 * (one["b"] + one["c"]) / 2)
  np.testing.assert_allclose(total, expected, rtol=1e-6)
  np.testing.assert_allclose(
    parts["task/aux"], (one["b"] + one["c"]) / 2, rtol=1e-6
  )


def test_learned_uncertainties_weigh_the_tasks():
  rng = np.random.default_rng(0)
  logits = {t: rng.standard_normal((1, 2, 2, 3)) for t in ("a", "b")}
  truth = {t: rng.integers(0, 3, (1, 2, 2)) for t in logits}
  weights = {t: np.ones(3, np.float32) for t in logits}
  task_weights = {"a": 1.0, "b": 3.0}
  outputs = {"logits": logits, "aux": {}}
  log_variance = {"a": jnp.float32(0.0), "b": jnp.float32(np.log(2.0))}
  total, parts = losses.total_loss(
    outputs | {"log_variance": log_variance}, truth, weights, task_weights, 0.0
  )
  _, plain = losses.total_loss(outputs, truth, weights, task_weights, 0.0)
  expected = plain["a"] + 3 * (plain["b"] / 2 + np.log(2) / 2)
  np.testing.assert_allclose(total, expected, rtol=1e-6)
  np.testing.assert_allclose(parts["b/log_variance"], np.log(2), rtol=1e-6)
