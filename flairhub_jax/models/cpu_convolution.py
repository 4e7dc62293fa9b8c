"""Convolutions in forms that XLA compiles to fast code on CPUs.

Functions for `kernels.Form`: forward passes, and custom backward passes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flairhub_jax.array_type import Array

# Maximum number of values (2 MB) in the lines, or partial results, of a chunk
# of images. The fastest of 1 to 8 MB, measured for 64 and 128 channels.
_CHUNK_VALUES = 2**19
# PyTorch's `padding_mode` -> the mode of `numpy.pad`.
PADDING_MODES = {
  "zeros": "constant",
  "reflect": "reflect",
  "replicate": "edge",
  "circular": "wrap",
}


def contract_rows(
  x: Float[Array, "*n c"], y: Float[Array, "*n d"], dtype: Any = None
) -> Float[Array, "c d"]:
  """Contracts all axes but the last.

  They are flattened first: with several axes XLA transposes both factors.
  """
  rows = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
  return jax.lax.dot_general(
    *rows, (((0,), (0,)), ((), ())), preferred_element_type=dtype
  )


# ---- zero padding, same size ------------------------------------------------


def same_backward(
  gradient: Float[Array, "n h w d"],
  result: None,
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k k c d"],
) -> tuple[Float[Array, "n h w c"], Float[Array, "k k c d"]]:
  """Computes both gradients as products with patches of the output gradient.

  These patches are small, as decoders have fewer output than input channels.
  """
  size, _, c, d = kernel.shape
  n, h, w, _ = x.shape
  edge = (size // 2, size // 2)
  padded = jnp.pad(gradient, ((0, 0), edge, edge, (0, 0)))
  taps = [(i, j) for i in range(size) for j in range(size)]
  patches = jnp.concatenate(
    [padded[:, size - 1 - i :, size - 1 - j :][:, :h, :w] for i, j in taps],
    axis=-1,
  ).reshape(n * h * w, -1)
  back = kernel.transpose(0, 1, 3, 2).reshape(size * size * d, c)
  weight = jax.lax.dot_general(
    x.reshape(n * h * w, c), patches, (((0,), (0,)), ((), ()))
  )
  weight = weight.reshape(c, size, size, d).transpose(1, 2, 0, 3)
  return (patches @ back).reshape(x.shape), weight


# ---- other padding ----------------------------------------------------------


def by_lines(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k k c d"],
  *,
  stride: int,
  padding: int,
  padding_mode: str,
) -> Float[Array, "n p q d"]:
  """Convolves with one product of horizontal neighbourhoods ("lines").

  The product gives a partial result for each row of the kernel; those of
  adjacent rows are added, so that full patches are never stored. Images are
  processed in chunks whose lines fit the cache; the backward pass recomputes
  the lines.
  """
  lines = _Lines(x.shape, kernel.shape, stride, padding, padding_mode)
  flat = _flatten(kernel)

  def convolve_chunk(x):
    partial = jnp.matmul(lines.cut(x), flat, preferred_element_type=jnp.float32)
    return lines.add_rows(partial).astype(x.dtype)

  return _join(jax.lax.map(convolve_chunk, _chunks(x, flat)))


def by_lines_backward(
  gradient: Float[Array, "n p q d"],
  result: None,
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k k c d"],
  *,
  stride: int,
  padding: int,
  padding_mode: str,
) -> tuple[Float[Array, "n h w c"], Float[Array, "k k c d"]]:
  """Recomputes the lines; the weight gradient is accumulated in float32."""
  lines = _Lines(x.shape, kernel.shape, stride, padding, padding_mode)
  flat = _flatten(kernel)

  def add_chunk(weight, chunk):
    x, gradient = chunk
    partial = lines.add_rows_transpose(gradient)
    weight += contract_rows(lines.cut(x), partial, jnp.float32)
    return weight, lines.cut_transpose(partial @ flat.T)

  xs = _chunks(x, flat)
  gradient = gradient.reshape(*xs.shape[:2], *gradient.shape[1:])
  weight, back = jax.lax.scan(
    add_chunk, jnp.zeros(flat.shape, jnp.float32), (xs, gradient)
  )
  size, _, c, d = kernel.shape
  weight = weight.reshape(size, c, size, d).transpose(2, 0, 1, 3)
  return _join(back), weight.astype(kernel.dtype)


class _Lines:
  """Indices of the input pixels of a padded convolution, axis by axis."""

  def __init__(self, shape, kernel_shape, stride, padding, padding_mode):
    _, self.h, self.w, self.c = shape
    self.size = kernel_shape[0]
    # The input pixel of each tap of each output pixel, [output size].
    self.rows, self.columns = (
      np.lib.stride_tricks.sliding_window_view(
        np.pad(np.arange(length), padding, mode=PADDING_MODES[padding_mode]),
        self.size,
      )[::stride]
      for length in (self.h, self.w)
    )

  def cut(self, x):
    """Converts pixels [m h w c] to lines [m*h*q size*c]."""
    lines = _take(x.reshape(-1, self.w, self.c), self.columns.reshape(-1))
    return lines.reshape(-1, self.size * self.c)

  def cut_transpose(self, lines):
    """Applies the transpose of `cut`."""
    lines = lines.reshape(-1, self.columns.size, self.c)
    total = 0.0
    for tap in range(self.size):
      for output, mask in _output_pixels(self.columns[:, tap], self.w):
        values = _take(lines, output * self.size + tap).astype(jnp.float32)
        total = total + values * mask[:, None]
    return total.reshape(-1, self.h, self.w, self.c).astype(lines.dtype)

  def add_rows(self, partial):
    """Sums partial results [m*h*q size*d] to results [m p q d]."""
    partial = partial.reshape(
      -1, self.h, len(self.columns), self.size, partial.shape[-1] // self.size
    )
    return sum(
      _take(partial[:, :, :, tap], self.rows[:, tap])
      for tap in range(self.size)
    )

  def add_rows_transpose(self, gradient):
    """Applies the transpose of `add_rows`."""
    partial = []
    for tap in range(self.size):
      total = 0.0
      for output, mask in _output_pixels(self.rows[:, tap], self.h):
        values = _take(gradient, output).astype(jnp.float32)
        total = total + values * mask[:, None, None]
      partial.append(total)
    stacked = jnp.stack(partial, 3).astype(gradient.dtype)
    return stacked.reshape(-1, self.size * gradient.shape[-1])


def _take(x, index):
  """Indexes the second axis."""
  return x.at[:, index].get(mode="promise_in_bounds")


def _output_pixels(pixels, length):
  """Yields (index, mask) of the output pixels that read each input pixel.

  Several times, as padding makes several output pixels read the same pixel.
  """
  outputs = [np.flatnonzero(pixels == pixel) for pixel in range(length)]
  for i in range(max(map(len, outputs))):
    mask = np.asarray([len(own) > i for own in outputs], np.float32)
    index = [own[i] if len(own) > i else 0 for own in outputs]
    yield np.asarray(index), mask


def _flatten(kernel):
  """Reshapes [row column c d] to [column*c row*d], the factor of lines."""
  size, _, c, d = kernel.shape
  return kernel.transpose(1, 2, 0, 3).reshape(size * c, size * d)


def _chunks(x, flat):
  """Reshapes [n h w c] to [chunks m h w c], chunks of m images."""
  n, h, w, _ = x.shape
  most = max(1, _CHUNK_VALUES // (h * w * max(flat.shape)))
  m = max(size for size in range(1, n + 1) if n % size == 0 and size <= most)
  return x.reshape(n // m, m, *x.shape[1:])


def _join(chunks):
  return chunks.reshape(-1, *chunks.shape[2:])


# ---- depthwise --------------------------------------------------------------


def _pad_edges(x, kernel):
  edge = (kernel.shape[0] // 2,) * 2
  return jnp.pad(x, ((0, 0), edge, edge, (0, 0)))


def depthwise(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"]
) -> Float[Array, "n h w c"]:
  """Depthwise convolution as a sum over the taps of the kernel.

  XLA fuses it into one loop; its grouped convolution is twenty times slower.
  """
  h, w = x.shape[1:3]
  padded = _pad_edges(x, kernel)
  size = kernel.shape[0]
  return sum(
    padded[:, i : i + h, j : j + w] * kernel[i, j]
    for i in range(size)
    for j in range(size)
  )


def depthwise_backward(
  gradient: Float[Array, "n h w c"],
  result: None,
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k k c"],
) -> tuple[Float[Array, "n h w c"], Float[Array, "k k c"]]:
  """Convolves with the mirrored kernel; sums the kernel gradient tap by tap."""
  size = kernel.shape[0]
  padded = _pad_edges(x, kernel)

  def tap(_, index):
    start = (0, index // size, index % size, 0)
    shifted = jax.lax.dynamic_slice(padded, start, x.shape)
    return None, (shifted * gradient).sum((0, 1, 2))

  _, taps = jax.lax.scan(tap, None, jnp.arange(size * size))
  back = depthwise(gradient, kernel[::-1, ::-1])
  return back, taps.reshape(kernel.shape)
