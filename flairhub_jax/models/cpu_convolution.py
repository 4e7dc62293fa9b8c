"""Convolutions in the forms that XLA is fast with on CPUs.

Pairs of functions for `kernels.Form`: forward, and backward where it is one of
our own.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flairhub_jax.array_type import Array

# Images are processed in groups whose lines, or partial results, have at most:
# numbers (2 MB). The best of 1 to 8 MB for 64 and 128 channels, measured.
_LINE_NUMBERS = 2**19
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
  """Sums products over all axes but the last.

  Of several axes XLA would transpose both factors.
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
  """Both gradients are one product with patches of the output's gradient.

  Cheap patches: a decoder's result is narrower than what it reads.
  """
  side, _, c, d = kernel.shape
  n, h, w, _ = x.shape
  edge = (side // 2, side // 2)
  padded = jnp.pad(gradient, ((0, 0), edge, edge, (0, 0)))
  taps = [(i, j) for i in range(side) for j in range(side)]
  patches = jnp.concatenate(
    [padded[:, side - 1 - i :, side - 1 - j :][:, :h, :w] for i, j in taps],
    axis=-1,
  ).reshape(n * h * w, -1)
  back = kernel.transpose(0, 1, 3, 2).reshape(side * side * d, c)
  weight = jax.lax.dot_general(
    x.reshape(n * h * w, c), patches, (((0,), (0,)), ((), ()))
  )
  weight = weight.reshape(c, side, side, d).transpose(1, 2, 0, 3)
  return (patches @ back).reshape(x.shape), weight


# ---- padded with a map's own pixels -----------------------------------------


def by_lines(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k k c d"],
  *,
  stride: int,
  padding: int,
  padding_mode: str,
) -> Float[Array, "n p q d"]:
  """A padded convolution as one product with neighbours along a row.

  The product gives a partial result for each row of the kernel; those of
  neighbouring rows are added, so whole patches are never stored. Images are
  processed in groups whose lines stay in the cache; gradients compute the lines
  again.
  """
  lines = _Lines(x.shape, kernel.shape, stride, padding, padding_mode)
  flat = _flatten(kernel)

  def of_part(x):
    shares = jnp.matmul(lines.cut(x), flat, preferred_element_type=jnp.float32)
    return lines.add_rows(shares).astype(x.dtype)

  return _join(jax.lax.map(of_part, _by_parts(x, flat)))


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
  """Cuts the lines again; the weight's gradient is summed in float32."""
  lines = _Lines(x.shape, kernel.shape, stride, padding, padding_mode)
  flat = _flatten(kernel)

  def add(weight, part):
    x, gradient = part
    shares = lines.spread_rows(gradient)
    weight += contract_rows(lines.cut(x), shares, jnp.float32)
    return weight, lines.uncut(shares @ flat.T)

  xs = _by_parts(x, flat)
  gradient = gradient.reshape(*xs.shape[:2], *gradient.shape[1:])
  weight, back = jax.lax.scan(
    add, jnp.zeros(flat.shape, jnp.float32), (xs, gradient)
  )
  side, _, c, d = kernel.shape
  weight = weight.reshape(side, c, side, d).transpose(2, 0, 1, 3)
  return _join(back), weight.astype(kernel.dtype)


class _Lines:
  """Index of the pixels read by a padded convolution, one axis at a time."""

  def __init__(self, shape, kernel_shape, stride, padding, padding_mode):
    _, self.h, self.w, self.c = shape
    self.side = kernel_shape[0]
    # The pixel that each tap of each result reads, [results side].
    self.rows, self.columns = (
      np.lib.stride_tricks.sliding_window_view(
        np.pad(np.arange(size), padding, mode=PADDING_MODES[padding_mode]),
        self.side,
      )[::stride]
      for size in (self.h, self.w)
    )

  def cut(self, x):
    """Pixels [m h w c] to their lines of taps, [m*h*q side*c]."""
    lines = _take(x.reshape(-1, self.w, self.c), self.columns.reshape(-1))
    return lines.reshape(-1, self.side * self.c)

  def uncut(self, lines):
    """The transpose of `cut`."""
    lines = lines.reshape(-1, self.columns.size, self.c)
    total = 0.0
    for tap in range(self.side):
      for result, reads in _readers(self.columns[:, tap], self.w):
        taken = _take(lines, result * self.side + tap).astype(jnp.float32)
        total = total + taken * reads[:, None]
    return total.reshape(-1, self.h, self.w, self.c).astype(lines.dtype)

  def add_rows(self, shares):
    """Partial results [m*h*q side*d] to results [m p q d]."""
    shares = shares.reshape(
      -1, self.h, len(self.columns), self.side, shares.shape[-1] // self.side
    )
    return sum(
      _take(shares[:, :, :, tap], self.rows[:, tap]) for tap in range(self.side)
    )

  def spread_rows(self, gradient):
    """The transpose of `add_rows`."""
    spread = []
    for tap in range(self.side):
      total = 0.0
      for result, reads in _readers(self.rows[:, tap], self.h):
        taken = _take(gradient, result).astype(jnp.float32)
        total = total + taken * reads[:, None, None]
      spread.append(total)
    spread = jnp.stack(spread, 3).astype(gradient.dtype)
    return spread.reshape(-1, self.side * gradient.shape[-1])


def _take(x, index):
  """Picks from the second axis."""
  return x.at[:, index].get(mode="promise_in_bounds")


def _readers(pixels, size):
  """Of each of `size` pixels, which results read it: (index, 1 or 0) pairs.

  Several pairs, since padding makes several results read the same pixel.
  """
  readers = [np.flatnonzero(pixels == pixel) for pixel in range(size)]
  for number in range(max(map(len, readers))):
    reads = np.asarray([len(r) > number for r in readers], np.float32)
    index = [r[number] if len(r) > number else 0 for r in readers]
    yield np.asarray(index), reads


def _flatten(kernel):
  """[row column c d] as [column*c row*d], the factor of lines."""
  side, _, c, d = kernel.shape
  return kernel.transpose(1, 2, 0, 3).reshape(side * c, side * d)


def _by_parts(x, flat):
  """Splits [n h w c] into [parts m h w c], groups of m images."""
  n, h, w, _ = x.shape
  most = max(1, _LINE_NUMBERS // (h * w * max(flat.shape)))
  m = max(size for size in range(1, n + 1) if n % size == 0 and size <= most)
  return x.reshape(n // m, m, *x.shape[1:])


def _join(parts):
  return parts.reshape(-1, *parts.shape[2:])


# ---- each channel by itself -------------------------------------------------


def _padded_for(x, kernel):
  edge = (kernel.shape[0] // 2,) * 2
  return jnp.pad(x, ((0, 0), edge, edge, (0, 0)))


def depthwise(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"]
) -> Float[Array, "n h w c"]:
  """Convolves each channel by itself as a sum over the kernel's taps.

  XLA fuses it into one loop; its grouped convolution is twenty times slower.
  """
  h, w = x.shape[1:3]
  padded = _padded_for(x, kernel)
  side = kernel.shape[0]
  return sum(
    padded[:, i : i + h, j : j + w] * kernel[i, j]
    for i in range(side)
    for j in range(side)
  )


def depthwise_backward(
  gradient: Float[Array, "n h w c"],
  result: None,
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k k c"],
) -> tuple[Float[Array, "n h w c"], Float[Array, "k k c"]]:
  """The same with the mirrored kernel; the kernel's own tap by tap."""
  side = kernel.shape[0]
  padded = _padded_for(x, kernel)

  def tap(_, index):
    start = (0, index // side, index % side, 0)
    shifted = jax.lax.dynamic_slice(padded, start, x.shape)
    return None, (shifted * gradient).sum((0, 1, 2))

  _, taps = jax.lax.scan(tap, None, jnp.arange(side * side))
  back = depthwise(gradient, kernel[::-1, ::-1])
  return back, taps.reshape(kernel.shape)
