"""Layers that the networks share, with PyTorch's conventions where they differ.

Channels are last everywhere. Products run in `dtype`, parameters stay in
float32.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import convolution, initialise, kernels

Initializer = Callable[..., Array]


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """Exact GELU; through erf, which is faster here than jax.nn's erfc."""
  return x * (0.5 * (1.0 + jax.lax.erf(x * math.sqrt(0.5))))


# Units of rematerialisation.
REMAT = ("none", "stage", "block")


def rematerialised(run: Callable[..., Any], wanted: bool) -> Callable[..., Any]:
  """Returns `run(module, x, train, …)`, a stage or a block of an encoder.

  Args:
    run: calls `module` or submodules of it.
    wanted: whether only inputs are stored for the backward pass, which computes
      the rest again: less memory, the time of one more forward pass.
  """
  if not wanted:
    return run

  def again(module, x, train, *others):
    # Only arrays may pass through the transformation.
    by_arrays = nn.remat(
      lambda module, *args: run(module, args[0], train, *args[1:])
    )
    return by_arrays(module, x, *others)

  return again


def run_block(block: nn.Module, x: Array, train: bool, remat: str) -> Array:
  """Returns `block(x, train)`, rematerialised where blocks are."""
  run = rematerialised(lambda block, *args: block(*args), remat == "block")
  return run(block, x, train)


class Dense(nn.Module):
  """Linear map of the last axis, also every 1x1 convolution.

  Attributes:
    features: width of the result.
    use_bias: whether a bias is added.
    dtype: type of the product and of the result.
    kernel_init: initialiser of `kernel` [in out]; None: PyTorch's default.
    bias_init: initialiser of `bias` [out]; None: PyTorch's default.
  """

  features: int
  use_bias: bool = True
  dtype: Any = jnp.float32
  kernel_init: Initializer | None = None
  bias_init: Initializer | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n d"]:
    """Returns `x @ kernel + bias`."""
    width = x.shape[-1]
    default = initialise.torch_uniform(width)
    kernel = self.param(
      "kernel", self.kernel_init or default, (width, self.features)
    )
    y = convolution.project(x.astype(self.dtype), kernel.astype(self.dtype))
    if self.use_bias:
      bias = self.param("bias", self.bias_init or default, (self.features,))
      y = y + bias.astype(self.dtype)
    return y


class Conv(nn.Module):
  """2-D convolution with any of PyTorch's padding modes.

  Attributes:
    features: number of output channels.
    kernel: side of the kernel.
    stride: step in pixels.
    padding: pixels added on each side.
    padding_mode: "zeros", "reflect", "replicate" or "circular".
    use_bias: whether a bias is added.
    dtype: type of the product and of the result.
    kernel_init: initialiser of `kernel` [h w in out]; None: PyTorch's.
    bias_init: initialiser of `bias` [out]; None: PyTorch's.
  """

  features: int
  kernel: int = 3
  stride: int = 1
  padding: int = 1
  padding_mode: str = "zeros"
  use_bias: bool = True
  dtype: Any = jnp.float32
  kernel_init: Initializer | None = None
  bias_init: Initializer | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n p q d"]:
    """Convolves `x`."""
    side, width = self.kernel, x.shape[-1]
    default = initialise.torch_uniform(side * side * width)
    kernel = self.param(
      "kernel", self.kernel_init or default, (side, side, width, self.features)
    )
    y = convolution.convolve(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      stride=self.stride,
      padding=self.padding,
      padding_mode=self.padding_mode,
    )
    if self.use_bias:
      bias = self.param("bias", self.bias_init or default, (self.features,))
      y = y + bias.astype(self.dtype)
    return y


class DropPath(nn.Module):
  """Drops a residual branch of whole samples, scaling the others.

  Attributes:
    rate: probability of dropping.
  """

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, "b *n"], train: bool
  ) -> Float[Array, "b *n"]:
    """Returns `x`, with samples zeroed if `train`."""
    if not train or self.rate == 0.0:
      return x
    keep = 1.0 - self.rate
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    kept = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
    return jnp.where(kept, x / keep, 0.0).astype(x.dtype)


def bilinear_matrix(
  out: int, size: int, align_corners: bool = False
) -> Float[np.ndarray, "out size"]:
  """Weights that resize an axis as PyTorch's `interpolate` does.

  Args:
    out: length of the result.
    size: length of what is resized.
    align_corners: whether the first and last samples of both coincide.

  Returns:
    Float64 [out size]; each row sums to 1.
  """
  if align_corners:
    step = (size - 1) / (out - 1) if out > 1 else 0.0
    where = np.arange(out) * step
  else:
    where = np.maximum((np.arange(out) + 0.5) * (size / out) - 0.5, 0.0)
  low = np.minimum(np.floor(where).astype(int), size - 1)
  high = np.minimum(low + 1, size - 1)
  share = where - low
  matrix = np.zeros((out, size))
  np.add.at(matrix, (np.arange(out), low), 1.0 - share)
  np.add.at(matrix, (np.arange(out), high), share)
  return matrix


def pooling_matrix(out: int, size: int) -> Float[np.ndarray, "out size"]:
  """Weights of PyTorch's adaptive average pooling of an axis."""
  matrix = np.zeros((out, size))
  for i in range(out):
    start, end = i * size // out, -(-(i + 1) * size // out)
    matrix[i, start:end] = 1.0 / (end - start)
  return matrix


def apply_matrices(
  x: Float[Array, "b h w c"],
  rows: Float[np.ndarray, "p h"],
  columns: Float[np.ndarray, "q w"],
) -> Float[Array, "b p q c"]:
  """Applies a matrix to the rows' axis and one to the columns' axis."""
  (b, h, _, c), p, q = x.shape, rows.shape[0], columns.shape[0]
  x = apply_matrix(x, columns)
  return apply_matrix(x.reshape(b, h, q * c), rows).reshape(b, p, q, c)


def apply_matrix(
  x: Float[Array, "*b n c"], matrix: Float[np.ndarray, "m n"]
) -> Float[Array, "*b m c"]:
  """Applies a fixed matrix to the axis before the last.

  On a CPU the matrix is broadcast to the leading axes: with columns before
  rows the fastest form that XLA has there, forward and backward together.
  """
  return _RESIZE(x, jnp.asarray(matrix, x.dtype))


def _broadcast(x, matrix):
  return jnp.broadcast_to(matrix, (*x.shape[:-2], *matrix.shape)) @ x


def _einsum(x, matrix):
  return jnp.einsum("mn,...nc->...mc", matrix, x)


_RESIZE = kernels.Operation(
  "resize",
  {
    "broadcast": kernels.Form(_broadcast),
    "library": kernels.Form(_einsum),
  },
  num_differentiated=1,
)


def resize(
  x: Float[Array, "b h w c"], size: tuple[int, ...]
) -> Float[Array, "b p q c"]:
  """Resizes features bilinearly, corners not aligned; the same size is free."""
  if x.shape[1:3] == tuple(size):
    return x
  rows = bilinear_matrix(size[0], x.shape[1])
  return apply_matrices(x, rows, bilinear_matrix(size[1], x.shape[2]))


def adaptive_pool(
  x: Float[Array, "b h w c"], size: int
) -> Float[Array, "b size size c"]:
  """Averages over `size` x `size` cells, as PyTorch's adaptive pooling."""
  rows = pooling_matrix(size, x.shape[1])
  return apply_matrices(x, rows, pooling_matrix(size, x.shape[2]))


def without_image(features: list[Any]) -> list[Any]:
  """Drops the first of six levels: a ResNet's pyramid begins with its image.

  Pyramids of other encoders begin at 1/4 of the image and have four levels.
  """
  return features[1:] if len(features) == 6 else features
