"""One update, on a network of one layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from flairhub_jax.training import losses, optim, step
from flairhub_jax.training.state import init_state

TASK = "AERIAL_LABEL-COSIA"


class OneLayer:
  """Speaks as `Segmenter` does."""

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
  criterion = losses.build_criterion(config, {})
  return state, jax.jit(
    step.make_train_step(OneLayer(), optimizer, criterion, config)
  )


def kernel_of(params):
  return np.asarray(params["encoder_AERIAL_RGBI"]["stem"]["kernel"])


def test_an_update_goes_down_the_gradient(config, batch):
  state, train_step = start(config)
  after, told = train_step(state, batch)
  assert int(after.step) == 1
  change = kernel_of(state.params) - kernel_of(after.params)
  np.testing.assert_allclose(
    np.linalg.norm(change), 0.1 * told["gradient_norm"], rtol=1e-5
  )
  assert train_step(after, batch)[1]["loss"] < told["loss"]


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
  after, told = train_step(state, batch)
  assert told["gradient_norm"] == 0
  np.testing.assert_array_equal(
    kernel_of(after.params), kernel_of(state.params)
  )
