"""UPerNet (Xiao et al. 2018) as in segmentation-models-pytorch 0.4.0.

It needs fewer FLOPs for the same result: as convolutions are linear, features
are projected before they are upsampled, and never concatenated.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import convolution, initialise, layers, norms

_POOLS = (1, 2, 3, 6)
_HEAD_SCALE = 4


class ProjectionUnit(nn.Module):
  """A 1x1 convolution, batch normalisation and ReLU.

  Attributes:
    features: number of output channels.
    dtype: of the product.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], train: bool
  ) -> Float[Array, "b h w d"]:
    """Projects the features."""
    x = layers.Dense(
      self.features,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=initialise.kaiming_uniform,
      name="conv",
    )(x)
    return nn.relu(norms.BatchNorm(dtype=self.dtype, name="norm")(x, train))


class PyramidPooling(nn.Module):
  """Fuses the deepest features with their means over 1, 4, 9 and 36 cells.

  Attributes:
    features: number of output channels.
    dtype: of the products.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], train: bool
  ) -> Float[Array, "b h w d"]:
    """Returns features of the same size."""
    width = x.shape[-1]
    part = width // len(_POOLS)
    kernel = self.param(
      "kernel",
      initialise.kaiming_uniform,
      (width + part * len(_POOLS), self.features),
    ).astype(self.dtype)
    total = convolution.project(x, kernel[:width])
    for i, size in enumerate(_POOLS):
      pooled = layers.adaptive_pool(x, size)
      unit = ProjectionUnit(part, dtype=self.dtype, name=f"pool_{size}")
      start = width + i * part
      pooled = unit(pooled, train) @ kernel[start : start + part]
      total = total + layers.resize(pooled, x.shape[1:3])
    norm = norms.BatchNorm(dtype=self.dtype, name="norm")
    return nn.relu(norm(total, train))


class UPerNet(nn.Module):
  """Decoder and head, from a pyramid of features to logits.

  Attributes:
    num_classes: number of classes.
    output_size: rows and columns of the logits.
    pyramid_width: channels of the pyramid.
    width: channels before the head.
    dtype: of the products; logits are float32.
  """

  num_classes: int
  output_size: tuple[int, int]
  pyramid_width: int = 256
  width: int = 64
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, features: list[Float[Array, "b _ _ _"]], train: bool
  ) -> Float[Array, "b h w k"]:
    """Decodes a pyramid, shallowest first (`layers.without_image`)."""
    features = layers.without_image(features)
    x = PyramidPooling(
      self.pyramid_width, dtype=self.dtype, name="pyramid_pooling"
    )(features[-1].astype(self.dtype), train)
    pyramid = [x]
    for i, skip in enumerate(reversed(features[:-1])):
      unit = ProjectionUnit(
        self.pyramid_width, dtype=self.dtype, name=f"lateral_{i}"
      )
      x = layers.resize(x, skip.shape[1:3]) + unit(skip, train)
      pyramid.append(x)
    # Levels are fused at stride 4; smp's fifth level has stride 2.
    size = features[-4].shape[1:3]
    if len(features) == 5:
      pyramid[-1] = layers.resize(x, size)
    else:
      pyramid.append(_through_half(x))
    x = self._bottleneck(pyramid, size)
    x = nn.relu(
      norms.BatchNorm(dtype=self.dtype, name="bottleneck_norm")(x, train)
    )
    x = layers.Dense(
      self.num_classes,
      dtype=self.dtype,
      kernel_init=initialise.xavier_uniform,
      bias_init=initialise.zeros,
      name="head",
    )(x)
    return _enlarge_logits(x.astype(jnp.float32), self.output_size)

  def _bottleneck(self, pyramid, size):
    """A 3x3 convolution of all levels as if enlarged and concatenated."""
    kernel = self.param(
      "bottleneck_kernel",
      initialise.kaiming_uniform,
      (3, 3, self.pyramid_width * len(pyramid), self.width),
    ).astype(self.dtype)
    parts = jnp.split(kernel, len(pyramid), axis=2)
    total = 0.0
    for x, part in zip(pyramid, parts, strict=True):
      if x.shape[1:3] == size:
        total = total + convolution.convolve(x, part)
      else:
        total = total + convolve_enlarged(x, part, size)
    return total


def convolve_enlarged(
  x: Float[Array, "b h w c"],
  kernel: Float[Array, "3 3 c d"],
  size: tuple[int, int],
) -> Float[Array, "b p q d"]:
  """Equals `convolve(resize(x, size), kernel)`, with fewer FLOPs for small `x`.

  Pixels of `x` are projected to the nine taps; one constant matrix per axis
  combines the resize, the zero padding and the shifts of three taps.
  """
  b, h, w, c = x.shape
  d = kernel.shape[-1]
  # Taps ordered (column, row), so that columns contract without a transpose.
  taps = convolution.project(x, kernel.transpose(2, 1, 0, 3).reshape(c, 9 * d))
  taps = taps.reshape(b, h, w * 3, 3 * d)
  taps = layers.apply_matrix(taps, _tap_matrix(size[1], w))
  taps = taps.reshape(b, h, size[1], 3, d).transpose(0, 1, 3, 2, 4)
  taps = taps.reshape(b, h * 3, size[1] * d)
  y = layers.apply_matrix(taps, _tap_matrix(size[0], h))
  return y.reshape(b, *size, d)


def _tap_matrix(out, size):
  """Weights [out size*3] of an axis: three shifted resizes, interleaved."""
  padded = np.pad(layers.bilinear_matrix(out, size), ((1, 1), (0, 0)))
  shifted = [padded[tap : tap + out] for tap in range(3)]
  return np.stack(shifted, axis=-1).reshape(out, size * 3)


def _through_half(x):
  """Resizes `x` from stride 4 to stride 2 and back: a slight blur."""
  rows, columns = (
    layers.bilinear_matrix(n, 2 * n) @ layers.bilinear_matrix(2 * n, n)
    for n in x.shape[1:3]
  )
  return layers.apply_matrices(x, rows, columns)


def _enlarge_logits(x, size):
  """Resizes by 4 with aligned corners, then to `size` without, in one step."""
  rows, columns = (
    layers.bilinear_matrix(out, _HEAD_SCALE * n)
    @ layers.bilinear_matrix(_HEAD_SCALE * n, n, align_corners=True)
    for out, n in zip(size, x.shape[1:3], strict=True)
  )
  return layers.apply_matrices(x, rows, columns)
