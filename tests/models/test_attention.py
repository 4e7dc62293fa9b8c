"""Attention by parts: the same values and gradients as written down plainly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax.models import attention, swin

HEADS, WINDOW, WIDTH = 3, 4, 12
TOKENS = WINDOW**2
SIZE = (3 * WINDOW, 2 * WINDOW)  # six windows a map


def plain(qkv, bias, mask):
  parts = qkv.reshape(*qkv.shape[:2], 3, HEADS, -1)
  q, k, v = (parts[:, :, i] for i in range(3))
  scores = jnp.einsum("wqhd,wkhd->whqk", q, k) / np.sqrt(WIDTH / HEADS) + bias
  if mask is not None:
    maps = qkv.shape[0] // mask.shape[0]
    scores = scores + jnp.tile(mask, (maps, 1, 1))[:, None]
  weights = jax.nn.softmax(scores, axis=-1)
  return jnp.einsum("whqk,wkhd->wqhd", weights, v).reshape(*qkv.shape[:2], -1)


@pytest.fixture
def inputs():
  rng = np.random.default_rng(0)
  shapes = (12, TOKENS, 3 * WIDTH), (HEADS, TOKENS, TOKENS), (12, TOKENS, WIDTH)
  return [jnp.asarray(rng.standard_normal(s), jnp.float32) for s in shapes]


def value_and_gradients(attend, qkv, bias, gradient, mask):
  value, back = jax.vjp(lambda *xs: attend(*xs, mask), qkv, bias)
  return value, *back(gradient)


# All 12 windows, a map's 6, 2 and 1: as many at once as have so many scores.
@pytest.mark.parametrize("at_once", [12, 6, 2, 1])
@pytest.mark.parametrize("shifted", [False, True])
def test_parts_change_nothing(inputs, monkeypatch, at_once, shifted):
  monkeypatch.setattr(attention, "_CHUNK_SCORES", at_once * HEADS * TOKENS**2)
  half = (WINDOW // 2,) * 2
  mask = swin.shift_mask(SIZE, (WINDOW,) * 2, half) if shifted else None
  actual = value_and_gradients(attention.attend, *inputs, mask)
  expected = value_and_gradients(plain, *inputs, mask)
  for one, other in zip(actual, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_large_scores_stay_finite(inputs):
  qkv, bias, gradient = inputs
  actual = value_and_gradients(
    attention.attend, 100 * qkv, bias, gradient, None
  )
  assert all(np.isfinite(x).all() for x in actual)


def test_low_precision_comes_near(inputs):
  qkv, bias, gradient = (jnp.asarray(x) for x in inputs)
  low = qkv.astype(jnp.bfloat16), bias, gradient.astype(jnp.bfloat16)
  actual = value_and_gradients(attention.attend, *low, None)
  assert [x.dtype for x in actual] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
  expected = value_and_gradients(plain, qkv, bias, gradient, None)
  for one, other in zip(actual, expected, strict=True):
    one = np.asarray(one, np.float32)
    bound = 0.03 * np.abs(other).max()
    np.testing.assert_allclose(one, other, rtol=0, atol=bound)
