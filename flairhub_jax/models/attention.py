"""Attention within windows; scores are recomputed, not stored."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import kernels

# Scores per chunk on a CPU: 4 MB fit its cache. The fastest of 0.1 to 3
# million, measured for windows of 49 and of 144 tokens.
_CHUNK_SCORES = 2**20


def attend(
  qkv: Float[Array, "bw n c3"],
  bias: Float[Array, "heads n n"],
  mask: Float[Array | np.ndarray, "windows n n"] | None,
) -> Float[Array, "bw n c"]:
  """Returns softmax(q k / sqrt(d) + bias + mask) v of each window and head.

  The backward pass recomputes the scores from `qkv`. On a CPU both passes
  process chunks of windows; elsewhere all windows at once.

  Args:
    qkv: queries, keys and values of each token, in this order, each with its
      heads in order; products have this dtype, the softmax is float32.
    bias: added to the scores of each window.
    mask: added to the scores of each window of an image; the windows of an
      image are adjacent in `bw`. It gets no gradient.
  """
  return _ATTENTION(qkv, bias, mask)


def _by_library(qkv, bias, mask):
  """JAX's attention, with windows as its batch axis, vmapped over images."""
  heads = bias.shape[0]
  count, n, width = qkv.shape
  windows = count if mask is None else mask.shape[0]
  shape = count // windows, windows, n, 3, heads, width // (3 * heads)
  q, k, v = jnp.moveaxis(qkv.reshape(shape), 3, 0)
  bias = bias[None] if mask is None else bias + mask[:, None]
  attend_image = functools.partial(
    jax.nn.dot_product_attention, bias=bias, implementation="xla"
  )
  # It adds the float32 bias to scores in the dtype of the products.
  with jax.numpy_dtype_promotion("standard"):
    return jax.vmap(attend_image)(q, k, v).reshape(count, n, width // 3)


def _forward_chunked(qkv, bias, mask):
  chunk_mask, split_chunks = _chunks(qkv, bias, mask)

  def attend_chunk(chunk):
    index, qkv = chunk
    q, k, v = _split(qkv, bias.shape[0])
    weights, total = _weights(q, k, bias, chunk_mask(index))
    result = (weights.astype(v.dtype) @ v).astype(jnp.float32) / total
    return _tokens(result).astype(qkv.dtype)

  chunks = split_chunks(qkv)
  return jax.lax.map(attend_chunk, chunks).reshape(*qkv.shape[:2], -1)


def _backward_chunked(gradient, result, qkv, bias, mask):
  chunk_mask, split_chunks = _chunks(qkv, bias, mask)

  def add_chunk(bias_gradient, chunk):
    index, qkv, result, gradient = chunk
    q, k, v = _split(qkv, bias.shape[0])
    weights, total = _weights(q, k, bias, chunk_mask(index))
    weights = weights / total
    # sum_keys(weight * d weight) = sum_channels(result * d result)
    product = gradient.astype(jnp.float32) * result.astype(jnp.float32)
    product = _heads(product, bias.shape[0])
    gradient = _heads(gradient, bias.shape[0])
    scores = (gradient @ v.mT).astype(jnp.float32)
    scores = weights * (scores - product.sum(-1, keepdims=True))
    low = scores.astype(q.dtype)
    qkv_gradient = jnp.stack(
      [
        low @ k * k.shape[-1] ** -0.5,
        low.mT @ q,
        weights.astype(q.dtype).mT @ gradient,
      ]
    )
    qkv_gradient = qkv_gradient.transpose(1, 3, 0, 2, 4).reshape(qkv.shape)
    return bias_gradient + _sum_windows(scores), qkv_gradient

  bias_gradient, qkv_gradient = jax.lax.scan(
    add_chunk,
    jnp.zeros(bias.shape, jnp.float32),
    split_chunks(qkv, result, gradient),
  )
  return qkv_gradient.reshape(qkv.shape), bias_gradient.astype(bias.dtype)


_ATTENTION = kernels.Operation(
  "attention",
  {
    "parts": kernels.Form(_forward_chunked, _backward_chunked),
    "library": kernels.Form(_by_library),
  },
  keeps_result=True,
)


def _weights(q, k, bias, mask):
  """Unnormalised softmax weights of the keys, and their sum."""
  scores = (q @ k.mT).astype(jnp.float32) + bias
  if mask is not None:
    shape = scores.shape
    scores = scores.reshape(-1, mask.shape[0], *shape[1:]) + mask[:, None]
    scores = scores.reshape(shape)
  weights = jnp.exp(scores - scores.max(-1, keepdims=True))
  return weights, weights.sum(-1, keepdims=True)


def _split(qkv, heads):
  """Scaled queries, keys and values, [w heads n d] each."""
  w, n, width = qkv.shape
  parts = qkv.reshape(w, n, 3, heads, width // (3 * heads))
  q, k, v = parts.transpose(2, 0, 3, 1, 4)
  return q * q.shape[-1] ** -0.5, k, v


def _heads(x, heads):
  """Reshapes [w n c] to [w heads n d]."""
  return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _tokens(x):
  """Reshapes [w heads n d] to [w n c]."""
  w, heads, n, d = x.shape
  return x.transpose(0, 2, 1, 3).reshape(w, n, heads * d)


def _sum_windows(scores):
  """Sums the first axis by a matrix product; XLA's sum is slow on a CPU."""
  rows = scores.reshape(scores.shape[0], -1)
  ones = jnp.ones(rows.shape[0], rows.dtype)
  total = jnp.matmul(ones, rows, precision=jax.lax.Precision.HIGHEST)
  return total.reshape(scores.shape[1:])


def _chunks(qkv, bias, mask):
  """Returns functions for the mask of a chunk and for splitting arrays.

  The chunk size divides the number of windows of an image, so that a chunk has
  one mask.
  """
  count = qkv.shape[0]
  windows = count if mask is None else mask.shape[0]
  max_size = max(1, _CHUNK_SCORES // bias.size)
  sizes = range(1, min(windows, max_size) + 1)
  chunk_size = max(size for size in sizes if windows % size == 0)
  num_chunks = count // chunk_size

  def chunk_mask(index):
    if mask is None:
      return None
    shape = -1, min(chunk_size, windows), *mask.shape[1:]
    masks = jnp.asarray(mask).reshape(shape)
    return masks[index % masks.shape[0]]

  def split_chunks(*arrays):
    chunks = [x.reshape(num_chunks, chunk_size, *x.shape[1:]) for x in arrays]
    return jnp.arange(num_chunks), *chunks

  return chunk_mask, split_chunks
