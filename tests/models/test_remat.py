"""Rematerialisation: the same network and gradient, less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax.models import build, initialise, summary
from tests import tiny

SIDE = 64


def configure(encoder, remat):
  config = tiny.get_config()
  config.data.tasks = ("AERIAL_LABEL-COSIA",)
  config.inputs["AERIAL_RGBI"].pixels = SIDE
  config.model.encoder = encoder
  config.model.remat = remat
  return config


@pytest.mark.parametrize(
  "encoder", ["swin_nano", "convnextv2_atto", "resnet18"]
)
def test_less_is_kept_for_the_backward_pass(encoder):
  whole, less = (
    summary.summarise(configure(encoder, remat), num_dates=8)
    for remat in (False, True)
  )
  assert less.activation_bytes < 0.7 * whole.activation_bytes
  assert less.num_parameters == whole.num_parameters


def test_gradient_and_dropout_stay_what_they_are():
  config = configure("swin_nano", False)
  shapes = build.input_shapes(config, num_dates=4)
  rng = np.random.default_rng(0)
  batch = jax.tree.map(
    lambda x: rng.integers(0, 200, (2, *x.shape[1:])).astype(x.dtype), shapes
  )
  networks = [
    build.build_segmenter(configure("swin_nano", remat), output_size=(16, 16))
    for remat in (False, True)
  ]
  variables = initialise.init_variables(networks[0], shapes, seed=0)

  def gradient(network):
    def loss(params):
      outputs, updates = network.apply(
        {**variables, "params": params},
        batch,
        train=True,
        rngs={"dropout": jax.random.key(1)},
        mutable=["batch_stats"],
      )
      (logits,) = outputs["logits"].values()
      return jnp.square(logits).mean(), updates

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

  (loss, updates), gradients = gradient(networks[0])
  (loss_again, updates_again), gradients_again = gradient(networks[1])
  np.testing.assert_allclose(loss, loss_again, rtol=1e-5)
  for one, other in ((updates, updates_again), (gradients, gradients_again)):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(
        x, y, rtol=1e-3, atol=1e-4 * max(1e-3, float(jnp.abs(x).max()))
      ),
      one,
      other,
    )
