"""Norms: custom gradients equal autodiff and store few residuals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax.models import convnext, norms

SHAPE = (3, 5, 4, 8)


def layer_norm(x, scale, bias):
  x = x - x.mean(-1, keepdims=True)
  rate = jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)
  return x * rate * scale + bias


def batch_norm(x, scale, bias, counted=None):
  counted = jnp.ones((*x.shape[:-1], 1)) if counted is None else counted
  counted = jnp.broadcast_to(counted, (*x.shape[:-1], 1))
  mean = (x * counted).sum((0, 1, 2)) / counted.sum()
  variance = (jnp.square(x - mean) * counted).sum((0, 1, 2)) / counted.sum()
  return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + bias


def draw():
  rng = np.random.default_rng(0)
  x, gradient = (rng.standard_normal(SHAPE).astype(np.float32) for _ in "xg")
  scale, bias = (rng.standard_normal(8).astype(np.float32) for _ in "sb")
  return 3 + 2 * x, scale, bias, gradient


def apply(module, x, scale, bias, *args):
  variables = {"params": {"scale": scale, "bias": bias}}
  return module.apply(variables, x, *args, mutable=["batch_stats"])[0]


COUNTED = np.array([1.0, 0.0, 1.0], np.float32)[:, None, None, None]
CASES = {
  "layer": (norms.LayerNorm, (), layer_norm),
  "batch": (norms.BatchNorm, (True,), batch_norm),
  "counted": (
    norms.BatchNorm,
    (True, COUNTED),
    lambda *args: batch_norm(*args, COUNTED),
  ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_autodiff(name):
  module, args, plain = CASES[name]
  *inputs, gradient = draw()
  expected, back = jax.vjp(plain, *inputs)
  expected = expected, *back(gradient)
  actual, back = jax.vjp(lambda *xs: apply(module(), *xs, *args), *inputs)
  for one, other in zip((actual, *back(gradient)), expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
  ("module", "args"),
  [
    (norms.LayerNorm(dtype=jnp.bfloat16), ()),
    (norms.BatchNorm(dtype=jnp.bfloat16), (True,)),
    (norms.BatchNorm(dtype=jnp.bfloat16), (True, COUNTED)),
    (norms.GroupNorm(2, dtype=jnp.bfloat16), ()),
    (convnext.ResponseNorm(), ()),
  ],
  ids=lambda x: type(x).__name__,
)
def test_no_float32_copy_is_stored_for_the_backward_pass(module, args):
  x, scale, bias, _ = draw()

  def backward(x, scale, bias):
    return jax.vjp(lambda *xs: apply(module, *xs, *args), x, scale, bias)[1]

  kept = jax.eval_shape(backward, jnp.bfloat16(x), scale, bias)
  large = [leaf for leaf in jax.tree.leaves(kept) if leaf.shape == SHAPE]
  assert [leaf.dtype for leaf in large] == [jnp.bfloat16]
