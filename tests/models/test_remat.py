"""Rematerialisation: the same network and gradient, less memory."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax import configuration
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError
from flairhub_jax.models import build, initialise, summary, swin
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
def test_less_is_stored_for_the_backward_pass(encoder):
  whole, by_block, by_stage = (
    summary.summarise(configure(encoder, remat), num_dates=8)
    for remat in ("none", "block", "stage")
  )
  assert by_block.activation_bytes < 0.7 * whole.activation_bytes
  assert by_stage.activation_bytes <= by_block.activation_bytes
  assert by_block.num_parameters == whole.num_parameters
  assert by_stage.num_parameters == whole.num_parameters


@pytest.mark.parametrize(
  ("remat", "parts"), [("none", 0), ("stage", 1), ("block", 3)]
)
def test_each_block_or_each_stage_is_computed_again(remat, parts):
  """What a GPU compiles; XLA for CPUs joins both passes and saves nothing."""
  x = jnp.zeros((1, 64, 64, 3))
  encoder = swin.Swin(16, (3,), (2,), 4, drop_path_rate=0.0, remat=remat)
  init = functools.partial(encoder.init, train=False)
  variables = jax.eval_shape(init, jax.random.key(0), x)

  def loss(variables, x):
    return sum(jnp.square(y).sum() for y in encoder.apply(variables, x, True))

  traced = jax.jit(jax.grad(loss)).trace(variables, x)
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert text.count("optimization_barrier ") == parts


def test_another_word_is_refused():
  with pytest.raises(InputError, match=r"model\.remat.*none, stage, block"):
    build.build_segmenter(configure("swin_nano", "all"), output_size=(16, 16))


def test_runs_of_earlier_versions_are_read():
  config = base.get_config()
  fields = json.loads(configuration.to_json(config))
  for name in ("matmul_precision", "deterministic"):
    del fields[name]
  for earlier, now in ((True, "stage"), (False, "none")):
    fields["model"]["remat"] = earlier
    config.model.remat = now
    read = configuration.from_json(json.dumps(fields))
    assert not configuration.differences(read, config)


@pytest.mark.parametrize("remat", ["stage", "block"])
def test_gradient_and_dropout_stay_what_they_are(remat):
  config = configure("swin_nano", "none")
  shapes = build.input_shapes(config, num_dates=4)
  rng = np.random.default_rng(0)
  batch = jax.tree.map(
    lambda x: rng.integers(0, 200, (2, *x.shape[1:])).astype(x.dtype), shapes
  )
  networks = [
    build.build_segmenter(configure("swin_nano", remat), output_size=(16, 16))
    for remat in ("none", remat)
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
