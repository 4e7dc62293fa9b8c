"""One update, on a network of one layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax import mesh
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError
from flairhub_jax.models import layers, norms
from flairhub_jax.training import criterion as criterion_lib
from flairhub_jax.training import optim, step
from flairhub_jax.training.state import init_state

TASK = "AERIAL_LABEL-COSIA"


class OneLayer:
  """A stand-in with the interface of `Segmenter`."""

  def apply(self, variables, batch, *, train, rngs, mutable):
    kernel = variables["params"]["encoder_AERIAL_RGBI"]["stem"]["kernel"]
    logits = batch["inputs"] @ kernel
    return {"logits": {TASK: logits}, "aux": {}}, {}


@pytest.fixture
def config():
  config = base.get_config()
  config.optim.schedule = "constant"
  config.optim.learning_rate = 0.1
  config.optim.name = "sgd"
  return config


@pytest.fixture
def batch():
  rng = np.random.default_rng(0)
  return {
    "inputs": rng.normal(size=(2, 4, 4, 3)).astype(np.float32),
    "labels": {TASK: rng.integers(0, 19, (2, 4, 4)).astype(np.uint8)},
  }


def start(config):
  kernel = jnp.asarray(
    np.random.default_rng(1).normal(size=(3, 19)), jnp.float32
  )
  optimizer, _ = optim.build_optimizer(config.optim, 10)
  state = init_state(
    {"params": {"encoder_AERIAL_RGBI": {"stem": {"kernel": kernel}}}},
    optimizer,
    jax.random.key(0),
    has_ema=config.train.ema_decay > 0,
  )
  criterion = criterion_lib.build_criterion(config, {})
  return state, jax.jit(
    step.make_train_step(
      OneLayer(), optimizer, criterion, config, mesh.build_mesh()
    )
  )


def kernel_of(params):
  return np.asarray(params["encoder_AERIAL_RGBI"]["stem"]["kernel"])


def test_an_update_goes_down_the_gradient(config, batch):
  state, train_step = start(config)
  after, metrics = train_step(state, batch)
  assert int(after.step) == 1
  change = kernel_of(state.params) - kernel_of(after.params)
  np.testing.assert_allclose(
    np.linalg.norm(change), 0.1 * metrics["gradient_norm"], rtol=1e-5
  )
  assert train_step(after, batch)[1]["loss"] < metrics["loss"]


def test_a_plateau_shortens_the_update(config, batch):
  state, train_step = start(config)
  whole, _ = train_step(state, batch)
  halved = state.replace(plateau=state.plateau.replace(factor=jnp.float32(0.5)))
  half, _ = train_step(halved, batch)
  first = kernel_of(state.params)
  np.testing.assert_allclose(
    kernel_of(half.params) - first,
    (kernel_of(whole.params) - first) / 2,
    rtol=1e-4,
    atol=1e-7,
  )


def test_the_average_follows_the_parameters(config, batch):
  config.train.ema_decay = 0.75
  state, train_step = start(config)
  expected = kernel_of(state.params)
  for _ in range(3):
    state, _ = train_step(state, batch)
    expected = 0.75 * expected + 0.25 * kernel_of(state.params)
  np.testing.assert_allclose(
    kernel_of(state.variables["params"]), expected, rtol=1e-5
  )
  config.train.ema_decay = 0.0
  state, train_step = start(config)
  state, _ = train_step(state, batch)
  assert state.variables["params"] is state.params


def test_a_frozen_encoder_gets_no_gradient(config, batch):
  config.optim.encoder_rates.AERIAL_RGBI = 0.0
  state, train_step = start(config)
  after, metrics = train_step(state, batch)
  assert metrics["gradient_norm"] == 0
  np.testing.assert_array_equal(
    kernel_of(after.params), kernel_of(state.params)
  )


@pytest.mark.parametrize(
  "loss",
  [
    dict(cross_entropy=dict(weight=1.0)),
    dict(cross_entropy=dict(weight=1.0, label_smoothing=0.1)),
    dict(cross_entropy=dict(weight=0.0), focal=dict(weight=1.0)),
  ],
)
def test_parts_of_a_batch_add_up_to_the_whole(config, loss):
  """Though one part has no pixel that counts."""
  config.loss.update(loss)
  weights = np.linspace(0, 2, 19)
  config.tasks[TASK].class_weights = tuple(weights)
  rng = np.random.default_rng(2)
  labels = rng.integers(0, 21, (8, 4, 4)).astype(np.uint8)
  labels[1::4] = 0  # of weight 0, as all of the second part
  batch = {
    "inputs": rng.normal(size=(8, 4, 4, 3)).astype(np.float32),
    "labels": {TASK: labels},
  }
  state, train_step = start(config)
  whole, metrics = train_step(state, batch)
  config.train.accumulation = 4
  state, train_step = start(config)
  parts, metrics_again = train_step(state, batch)
  np.testing.assert_allclose(
    kernel_of(parts.params), kernel_of(whole.params), rtol=1e-5, atol=1e-6
  )
  for name, value in metrics.items():
    np.testing.assert_allclose(metrics_again[name], value, rtol=1e-5)


def test_the_memory_of_a_step_is_logged_and_bounded(config, batch, monkeypatch):
  batch = {**batch, "sample_mask": np.ones(2, bool)}
  config.train.num_steps = 10
  kernel = np.ones((3, 19), np.float32)
  variables = {"params": {"encoder_AERIAL_RGBI": {"stem": {"kernel": kernel}}}}
  devices = mesh.build_mesh()

  def prepare():
    state, train_step, _ = step.prepare(
      config, OneLayer(), variables, devices, {}
    )
    return mesh.place_state(state, train_step.shardings), train_step

  state, train_step = prepare()
  on_devices = mesh.place_batch(batch, devices)
  assert "GB per device" in train_step.compile(state, on_devices)
  assert train_step.compile(state, on_devices) is None
  after, _ = train_step(state, on_devices)
  assert int(after.step) == 1
  monkeypatch.setattr(step, "device_bytes", lambda: 10)
  state, train_step = prepare()
  with pytest.raises(InputError, match=r"data.batch_size: .*2 patches"):
    train_step.compile(state, on_devices)


class Normalised(nn.Module):
  """A batch norm before a linear layer."""

  @nn.compact
  def __call__(self, batch, train):
    x = norms.BatchNorm(name="norm")(batch["inputs"], train)
    return {"logits": {TASK: layers.Dense(19, name="head")(x)}, "aux": {}}


@pytest.mark.parametrize("kind", ["global", "device"])
def test_batch_statistics_are_of_all_devices_or_of_each(config, batch, kind):
  config.train.batch_statistics, config.train.num_steps = kind, 10
  devices = mesh.build_mesh()
  assert devices.size == 2
  model = Normalised()
  variables = model.init(jax.random.key(0), batch, False)
  # The step overwrites what it is given.
  state, train_step, _ = step.prepare(
    config, model, jax.tree.map(np.array, variables), devices, {}
  )
  state = mesh.place_state(state, train_step.shardings)
  state, metrics = train_step(state, mesh.place_batch(batch, devices))
  parts = [batch["inputs"]] if kind == "global" else batch["inputs"]
  means = [part.mean((0, 1, 2)[: part.ndim - 1]) for part in parts]
  actual = np.asarray(state.batch_stats["norm"]["mean"])
  np.testing.assert_allclose(actual, 0.1 * np.mean(means, 0), rtol=1e-4)
  variances = [part.reshape(-1, 3).var(0, ddof=1) for part in parts]
  actual = np.asarray(state.batch_stats["norm"]["var"])
  np.testing.assert_allclose(
    actual, 0.9 + 0.1 * np.mean(variances, 0), rtol=1e-4
  )
  assert int(state.batch_stats["norm"]["count"]) == 1

  # The loss is what it would be of each part normalised by itself.
  def loss(part):
    outputs, _ = model.apply(
      variables, {"inputs": part}, True, mutable=["batch_stats"]
    )
    return outputs["logits"][TASK]

  logits = np.concatenate(
    [loss(part[None] if part.ndim == 3 else part) for part in parts]
  )
  expected, _ = criterion_lib.build_criterion(config, {})(
    {"logits": {TASK: jnp.asarray(logits)}, "aux": {}}, batch["labels"]
  )
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
