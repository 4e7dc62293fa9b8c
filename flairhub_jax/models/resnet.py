"""ResNet (He et al. 2016) as in torchvision, with six levels.

The first level is the image, as in segmentation-models-pytorch.
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import initialise, layers, norms

_WIDTHS = (64, 128, 256, 512)
_BOTTLENECK = 4


class Block(nn.Module):
  """A basic block (two 3x3 convolutions) or a bottleneck block.

  Attributes:
    features: width of the 3x3 convolutions.
    stride: in pixels.
    is_bottleneck: whether it is a bottleneck: 1x1, 3x3 and 1x1 convolutions.
    dtype: of the products.
  """

  features: int
  stride: int
  is_bottleneck: bool
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], train: bool
  ) -> Float[Array, "b p q d"]:
    """Returns the output features."""
    width = self.features * (_BOTTLENECK if self.is_bottleneck else 1)
    if self.is_bottleneck:
      # The 3x3 convolution has the stride, as in ResNet V1.5.
      steps = [(self.features, 1, 1), (self.features, 3, self.stride)]
      steps.append((width, 1, 1))
    else:
      steps = [(width, 3, self.stride), (width, 3, 1)]
    y = x
    for i, (features, kernel, stride) in enumerate(steps, start=1):
      y = _conv(features, kernel, stride, f"conv_{i}", self.dtype)(y)
      y = norms.BatchNorm(dtype=self.dtype, name=f"norm_{i}")(y, train)
      if i < len(steps):
        y = nn.relu(y)
    if x.shape[-1] != width or self.stride > 1:
      x = x[:, :: self.stride, :: self.stride]
      x = layers.Dense(
        width,
        use_bias=False,
        dtype=self.dtype,
        kernel_init=initialise.kaiming_normal,
        name="shortcut",
      )(x)
      norm = norms.BatchNorm(dtype=self.dtype, name="shortcut_norm")
      x = norm(x, train)
    return nn.relu(x + y)


class ResNet(nn.Module):
  """The encoder: the image, then features at 1/2, 1/4, 1/8, 1/16 and 1/32.

  Attributes:
    depths: number of blocks of each stage.
    is_bottleneck: whether blocks are bottlenecks.
    remat: one of `layers.REMAT`.
    dtype: of the products.
  """

  depths: tuple[int, ...]
  is_bottleneck: bool
  remat: str = "none"
  dtype: Any = jnp.float32

  num_levels = 6

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], train: bool
  ) -> list[Float[Array, "b _ _ _"]]:
    """Returns the features, shallowest first."""
    features = [x]
    x = _conv(_WIDTHS[0], 7, 2, "stem_conv", self.dtype)(x)
    x = norms.BatchNorm(dtype=self.dtype, name="stem_conv_norm")(x, train)
    x = nn.relu(x)
    features.append(x)
    x = _max_pool(x)
    for stage in range(1, 1 + len(self.depths)):
      run = functools.partial(ResNet._stage, stage=stage)
      x = layers.rematerialised(run, self.remat == "stage")(self, x, train)
      features.append(x)
    return features

  def _stage(self, x, train, *, stage):
    """Runs the blocks of a stage, the first of which may downsample."""
    for i in range(self.depths[stage - 1]):
      block = Block(
        _WIDTHS[stage - 1],
        stride=2 if stage > 1 and i == 0 else 1,
        is_bottleneck=self.is_bottleneck,
        dtype=self.dtype,
        name=f"layer_{stage}_block_{i}",
      )
      x = layers.run_block(block, x, train, self.remat)
    return x


def _conv(features, kernel, stride, name, dtype):
  """A convolution without bias, with torchvision's initialisation."""
  return layers.Conv(
    features,
    kernel=kernel,
    stride=stride,
    padding=kernel // 2,
    use_bias=False,
    dtype=dtype,
    kernel_init=initialise.kaiming_normal,
    name=name,
  )


def _max_pool(x):
  """3x3 max pooling with stride 2.

  Implemented as the maximum of shifted features: XLA's gradient of a window
  reduction is a slow scatter on a CPU. Inputs follow a ReLU, so zero padding is
  exact.
  """
  for axis in (1, 2):
    size = x.shape[axis]
    edges = [(0, 0)] * 4
    edges[axis] = (1, 1)
    padded = jnp.pad(x, edges)
    shifted = [
      padded[(slice(None),) * axis + (slice(i, i + size, 2),)] for i in range(3)
    ]
    x = jnp.maximum(jnp.maximum(shifted[0], shifted[1]), shifted[2])
  return x
