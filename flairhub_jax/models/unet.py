"""U-Net decoder as in segmentation-models-pytorch 0.4.0."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import initialise, layers, norms


class Block(nn.Module):
  """Upsamples by 2, concatenates a skip connection, convolves twice.

  Attributes:
    features: number of output channels.
    dtype: of the products.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b h w c"],
    skip: Float[Array, "b p q s"] | None,
    train: bool,
  ) -> Float[Array, "b p q d"]:
    """Returns features of the size of `skip`, or twice the size of `x`."""
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    if skip is not None:
      # The encoder rounds odd sizes up.
      x = x[:, : skip.shape[1], : skip.shape[2]]
      x = jnp.concatenate([x, skip.astype(x.dtype)], axis=-1)
    for i in (1, 2):
      x = layers.Conv(
        self.features,
        use_bias=False,
        dtype=self.dtype,
        kernel_init=initialise.kaiming_uniform,
        name=f"conv_{i}",
      )(x)
      x = norms.BatchNorm(dtype=self.dtype, name=f"norm_{i}")(x, train)
      x = nn.relu(x)
    return x


class UNet(nn.Module):
  """Decoder and head, from a pyramid of features to logits.

  Attributes:
    num_classes: number of classes.
    output_size: rows and columns of the logits.
    widths: channels of each block, deepest first.
    dtype: of the products; logits are float32.
  """

  num_classes: int
  output_size: tuple[int, int]
  widths: tuple[int, ...] = (256, 128, 64, 32, 16)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, features: list[Float[Array, "b _ _ _"]], train: bool
  ) -> Float[Array, "b h w k"]:
    """Decodes a pyramid, shallowest first (`layers.without_image`)."""
    *skips, x = layers.without_image(features)
    x = x.astype(self.dtype)
    for i, width in enumerate(self.widths):
      skip = skips.pop() if skips else None
      block = Block(width, dtype=self.dtype, name=f"block_{i}")
      x = block(x, skip, train)
    x = layers.Conv(
      self.num_classes,
      dtype=self.dtype,
      kernel_init=initialise.xavier_uniform,
      bias_init=initialise.zeros,
      name="head_conv",
    )(x)
    return layers.resize(x.astype(jnp.float32), self.output_size)
