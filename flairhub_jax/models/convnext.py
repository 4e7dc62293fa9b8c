"""ConvNeXt V2 (Woo et al. 2023) as timm builds it: four levels of features."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import convolution, initialise, layers, norms

_EPSILON = 1e-6
_KERNEL = 7


class Depthwise(nn.Module):
  """A depthwise 7x7 convolution.

  Attributes:
    dtype: of the products and the result.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Convolves `x` with zero padding."""
    width = x.shape[-1]
    kernel = self.param(
      "kernel", initialise.small_normal, (_KERNEL, _KERNEL, width)
    )
    bias = self.param("bias", initialise.zeros, (width,))
    y = convolution.convolve_depthwise(
      x.astype(self.dtype), kernel.astype(self.dtype)
    )
    return y + bias.astype(self.dtype)


class ResponseNorm(nn.Module):
  """Global response normalisation (GRN)."""

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Scales each channel by its L2 norm relative to the mean, in float32."""
    scale = self.param("scale", initialise.zeros, (x.shape[-1],))
    bias = self.param("bias", initialise.zeros, (x.shape[-1],))
    return _response_norm(x, scale, bias)


@jax.checkpoint
def _response_norm(x, scale, bias):
  """Computes `ResponseNorm`; its only residual is `x` in its own dtype."""
  y = x.astype(jnp.float32)
  square = jnp.square(y).sum((1, 2), keepdims=True)
  # The gradient of sqrt is infinite at 0, for a dead channel.
  norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
  relative = norm / (norm.mean(-1, keepdims=True) + _EPSILON)
  return (y + (y * relative * scale + bias)).astype(x.dtype)


class Block(nn.Module):
  """A depthwise convolution and an MLP, with a residual connection.

  Attributes:
    stored_as_images: whether timm's files store the MLP as 1x1 convolutions, as
      for the small variants.
    drop_path_rate: probability of dropping the residual branch.
    dtype: of the products.
  """

  stored_as_images: bool
  drop_path_rate: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], train: bool
  ) -> Float[Array, "b h w c"]:
    """Returns features of the same shape."""
    width = x.shape[-1]
    name = "pointwise" if self.stored_as_images else "linear"
    y = Depthwise(dtype=self.dtype, name="depthwise")(x)
    y = norms.LayerNorm(_EPSILON, dtype=self.dtype, name="norm")(y)
    y = layers.gelu(_dense(4 * width, f"{name}_1", self.dtype)(y))
    y = ResponseNorm(name="response_norm")(y)
    y = _dense(width, f"{name}_2", self.dtype)(y)
    return x + layers.DropPath(self.drop_path_rate)(y, train)


class ConvNeXt(nn.Module):
  """The encoder: features at 1/4, 1/8, 1/16 and 1/32 of the image.

  Attributes:
    widths: channels of each stage.
    depths: number of blocks of each stage.
    stored_as_images: see `Block`.
    drop_path_rate: of the last block; increases linearly from 0. The reference
      trains without drop path.
    remat: one of `layers.REMAT`.
    dtype: of the products.
  """

  widths: tuple[int, ...]
  depths: tuple[int, ...]
  stored_as_images: bool = False
  drop_path_rate: float = 0.0
  remat: str = "none"
  dtype: Any = jnp.float32

  num_levels = 4

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], train: bool
  ) -> list[Float[Array, "b _ _ _"]]:
    """Returns the output of each stage, shallowest first."""
    rates = layers.drop_path_rates(self.drop_path_rate, self.depths)
    x = convolution.cut_patches(x, 4)
    x = _dense(self.widths[0], "stem", self.dtype)(x)
    x = norms.LayerNorm(_EPSILON, dtype=self.dtype, name="stem_norm")(x)
    features = []
    for stage, own_rates in enumerate(rates):
      run = functools.partial(ConvNeXt._stage, stage=stage, rates=own_rates)
      x = layers.rematerialised(run, self.remat == "stage")(self, x, train)
      features.append(x)
    return features

  def _stage(self, x, train, *, stage, rates):
    """Downsamples, except in the first stage, and runs the blocks."""
    if stage:
      norm = norms.LayerNorm(
        _EPSILON, dtype=self.dtype, name=f"merge_{stage}_norm"
      )
      x = convolution.cut_patches(norm(x), 2)
      x = _dense(self.widths[stage], f"merge_{stage}", self.dtype)(x)
    for i, rate in enumerate(rates):
      block = Block(
        stored_as_images=self.stored_as_images,
        drop_path_rate=rate,
        dtype=self.dtype,
        name=f"stage_{stage}_block_{i}",
      )
      x = layers.run_block(block, x, train, self.remat)
    return x


def _dense(features, name, dtype):
  """A linear layer with the initialisation of timm's ConvNeXt."""
  return layers.Dense(
    features,
    dtype=dtype,
    kernel_init=initialise.small_normal,
    bias_init=initialise.zeros,
    name=name,
  )
