"""Common layers, with PyTorch's conventions where they differ from Flax's.

Channels are last. Products are computed in `dtype`, parameters are float32.
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
  """Exact GELU by erf, which is faster on a CPU than erfc in `jax.nn`."""
  return x * (0.5 * (1.0 + jax.lax.erf(x * math.sqrt(0.5))))


# Units of rematerialisation.
REMAT = ("none", "stage", "block")


def rematerialised(
  run: Callable[..., Any], enabled: bool
) -> Callable[..., Any]:
  """Wraps `run(module, x, train, …)`, a stage or a block of an encoder.

  Args:
    run: calls `module` or submodules of it.
    enabled: whether to store only inputs for the backward pass and recompute
      the rest, which trades memory for one more forward pass.
  """
  if not enabled:
    return run

  def run_with_remat(module, x, train, *others):
    # nn.remat accepts only arrays, so `train` is closed over.
    run_arrays = nn.remat(
      lambda module, *args: run(module, args[0], train, *args[1:])
    )
    return run_arrays(module, x, *others)

  return run_with_remat


def run_block(block: nn.Module, x: Array, train: bool, remat: str) -> Array:
  """Returns `block(x, train)`, rematerialised if `remat` is "block"."""
  run = rematerialised(lambda block, *args: block(*args), remat == "block")
  return run(block, x, train)


class Dense(nn.Module):
  """Linear layer on the last axis; also serves as 1x1 convolution.

  Attributes:
    features: number of output channels.
    use_bias: whether to add a bias.
    dtype: of the product and the result.
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
    kernel: size of the kernel.
    stride: in pixels.
    padding: pixels added at each edge.
    padding_mode: "zeros", "reflect", "replicate" or "circular".
    use_bias: whether to add a bias.
    dtype: of the product and the result.
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
    shape = (self.kernel, self.kernel, x.shape[-1], self.features)
    default = initialise.torch_uniform(math.prod(shape[:-1]))
    kernel = self.param("kernel", self.kernel_init or default, shape)
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
  """Stochastic depth: drops the residual branch of samples, scales the others.

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
    mask = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
    return jnp.where(mask, x / keep, 0.0).astype(x.dtype)


def drop_path_rates(rate: float, depths: tuple[int, ...]) -> list[list[float]]:
  """Rates of the blocks of each stage, linear from 0 to `rate` at the last."""
  rates = np.linspace(0.0, rate, sum(depths))
  return [part.tolist() for part in np.split(rates, np.cumsum(depths)[:-1])]


def bilinear_matrix(
  out: int, size: int, align_corners: bool = False
) -> Float[np.ndarray, "out size"]:
  """Weights that resize an axis as PyTorch's `interpolate` does.

  Args:
    out: length of the output.
    size: length of the input.
    align_corners: whether the first and last samples of both coincide.

  Returns:
    Float64 [out size]; each row sums to 1.
  """
  if align_corners:
    step = (size - 1) / (out - 1) if out > 1 else 0.0
    position = np.arange(out) * step
  else:
    position = np.maximum((np.arange(out) + 0.5) * (size / out) - 0.5, 0.0)
  low = np.minimum(np.floor(position).astype(int), size - 1)
  high = np.minimum(low + 1, size - 1)
  fraction = position - low
  matrix = np.zeros((out, size))
  np.add.at(matrix, (np.arange(out), low), 1.0 - fraction)
  np.add.at(matrix, (np.arange(out), high), fraction)
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
  """Applies one matrix to the axis of rows and one to that of columns."""
  (b, h, _, c), p, q = x.shape, rows.shape[0], columns.shape[0]
  x = apply_matrix(x, columns)
  return apply_matrix(x.reshape(b, h, q * c), rows).reshape(b, p, q, c)


def apply_matrix(
  x: Float[Array, "*b n c"], matrix: Float[np.ndarray, "m n"]
) -> Float[Array, "*b m c"]:
  """Applies a constant matrix to the second last axis.

  On a CPU the matrix is broadcast to the leading axes. With columns before rows
  this is XLA's fastest form there, over forward and backward pass.
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
  """Resizes features bilinearly, without aligned corners."""
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
  """Drops the first of six levels, the image in the pyramid of a ResNet.

  Pyramids of other encoders have four levels and start at stride 4.
  """
  return features[1:] if len(features) == 6 else features
