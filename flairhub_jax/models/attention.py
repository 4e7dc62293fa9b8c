"""Attention within windows; scores are recomputed, not stored."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import kernels

# Scores at a time on a CPU: 4 MB stay in its cache. The best of 0.1 to 3
# million, measured for windows of 49 and of 144 tokens.
_SCORES = 2**20


def attend(
  qkv: Float[Array, "bw n c3"],
  bias: Float[Array, "heads n n"],
  mask: Float[Array | np.ndarray, "windows n n"] | None,
) -> Float[Array, "bw n c"]:
  """Returns softmax(q k / sqrt(d) + bias + mask) v of each window and head.

  Gradients compute the scores again from `qkv` rather than read them back. On
  a CPU both directions take some windows at a time; elsewhere all at once.

  Args:
    qkv: of each token its queries, then its keys, then its values, each head
      after head; the products are of this type, the softmax is float32.
    bias: added to the scores of each window.
    mask: added to the scores of each window of a map, whose windows follow each
      other in `bw`; no gradient.
  """
  return _ATTENTION(qkv, bias, mask)


def _by_library(qkv, bias, mask):
  """JAX's attention; its batch are windows, images are a further axis."""
  heads = bias.shape[0]
  count, n, width = qkv.shape
  windows = count if mask is None else mask.shape[0]
  shape = count // windows, windows, n, 3, heads, width // (3 * heads)
  q, k, v = jnp.moveaxis(qkv.reshape(shape), 3, 0)
  bias = bias[None] if mask is None else bias + mask[:, None]
  of_map = functools.partial(
    jax.nn.dot_product_attention, bias=bias, implementation="xla"
  )
  # It adds the float32 bias to scores in the type of the products.
  with jax.numpy_dtype_promotion("standard"):
    return jax.vmap(of_map)(q, k, v).reshape(count, n, width // 3)


def _forward_by_parts(qkv, bias, mask):
  mask_of, cut = _by_parts(qkv, bias, mask)

  def of_part(part):
    number, qkv = part
    q, k, v = _split(qkv, bias.shape[0])
    weights, total = _weights(q, k, bias, mask_of(number))
    result = (weights.astype(v.dtype) @ v).astype(jnp.float32) / total
    return _tokens(result).astype(qkv.dtype)

  return jax.lax.map(of_part, cut(qkv)).reshape(*qkv.shape[:2], -1)


def _backward_by_parts(gradient, result, qkv, bias, mask):
  mask_of, cut = _by_parts(qkv, bias, mask)

  def add(total_of_bias, part):
    number, qkv, result, gradient = part
    q, k, v = _split(qkv, bias.shape[0])
    weights, total = _weights(q, k, bias, mask_of(number))
    weights = weights / total
    # Over keys, weights times their gradients sum to result times its own.
    change = gradient.astype(jnp.float32) * result.astype(jnp.float32)
    change = _heads(change, bias.shape[0])
    gradient = _heads(gradient, bias.shape[0])
    scores = (gradient @ v.mT).astype(jnp.float32)
    scores = weights * (scores - change.sum(-1, keepdims=True))
    low = scores.astype(q.dtype)
    back = jnp.stack(
      [
        low @ k * k.shape[-1] ** -0.5,
        low.mT @ q,
        weights.astype(q.dtype).mT @ gradient,
      ]
    )
    back = back.transpose(1, 3, 0, 2, 4).reshape(qkv.shape)
    return total_of_bias + _sum_of_windows(scores), back

  total, back = jax.lax.scan(
    add, jnp.zeros(bias.shape, jnp.float32), cut(qkv, result, gradient)
  )
  return back.reshape(qkv.shape), total.astype(bias.dtype)


_ATTENTION = kernels.Operation(
  "attention",
  {
    "parts": kernels.Form(_forward_by_parts, _backward_by_parts),
    "library": kernels.Form(_by_library),
  },
  keeps_result=True,
)


def _weights(q, k, bias, mask):
  """Weights of the keys and, not divided by it yet, their sum."""
  scores = (q @ k.mT).astype(jnp.float32) + bias
  if mask is not None:
    shape = scores.shape
    scores = scores.reshape(-1, mask.shape[0], *shape[1:]) + mask[:, None]
    scores = scores.reshape(shape)
  weights = jnp.exp(scores - scores.max(-1, keepdims=True))
  return weights, weights.sum(-1, keepdims=True)


def _split(qkv, heads):
  """Queries, scaled already, keys and values, [w heads n d] each."""
  w, n, width = qkv.shape
  parts = qkv.reshape(w, n, 3, heads, width // (3 * heads))
  q, k, v = parts.transpose(2, 0, 3, 1, 4)
  return q * q.shape[-1] ** -0.5, k, v


def _heads(x, heads):
  """[w n c] as [w heads n d]."""
  return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _tokens(x):
  """[w heads n d] as [w n c]."""
  w, heads, n, d = x.shape
  return x.transpose(0, 2, 1, 3).reshape(w, n, heads * d)


def _sum_of_windows(scores):
  """The sum over the first axis, as a product: XLA's own is slow on a CPU."""
  rows = scores.reshape(scores.shape[0], -1)
  ones = jnp.ones(rows.shape[0], rows.dtype)
  total = jnp.matmul(ones, rows, precision=jax.lax.Precision.HIGHEST)
  return total.reshape(scores.shape[1:])


def _by_parts(qkv, bias, mask):
  """Functions that return the mask of a part, and that split arrays into parts.

  Parts divide the windows of a map, so that each has a mask of its own.
  """
  count = qkv.shape[0]
  windows = count if mask is None else mask.shape[0]
  most = max(1, _SCORES // bias.size)
  sizes = range(1, min(windows, most) + 1)
  at_once = max(size for size in sizes if windows % size == 0)
  parts = count // at_once

  def mask_of(number):
    if mask is None:
      return None
    shape = -1, min(at_once, windows), *mask.shape[1:]
    masks = jnp.asarray(mask).reshape(shape)
    return masks[number % masks.shape[0]]

  def cut(*arrays):
    cut = [x.reshape(parts, at_once, *x.shape[1:]) for x in arrays]
    return jnp.arange(parts), *cut

  return mask_of, cut
