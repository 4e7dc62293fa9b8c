"""How the maps of several modalities become those of one."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flairhub_jax.models import convolution, initialise, layers


class MidConcat(nn.Module):
  """Concatenates resized maps level by level, then one 1x1 convolution.

  Written as a sum of projections, each enlarged after it was projected: the
  same numbers without the concatenation.

  Attributes:
    dtype: type of the products.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    maps: Mapping[str, list[Float[Array, "b _ _ _"]]],
    present: Mapping[str, Bool[Array, "b"]],
  ) -> list[Float[Array, "b _ _ _"]]:
    """Fuses the maps on the grid, and at the width, of the first modality.

    Args:
      maps: modality -> its maps; levels are joined as they come, the deepest
        of a U-TAE with the shallowest of an image encoder.
      present: modality -> which samples have it; absent ones count as zeros,
        modalities without an entry as present.

    Returns:
      One map per level. A single modality passes through; its layers exist,
      as in the reference's files, but are not used.
    """
    fused = []
    for i, level in enumerate(zip(*maps.values(), strict=True)):
      channels = [x.shape[-1] for x in level]
      width = channels[0]
      fan_in = initialise.torch_uniform(sum(channels))
      kernel = self.param(f"kernel_{i}", fan_in, (sum(channels), width))
      bias = self.param(f"bias_{i}", fan_in, (width,))
      if len(level) == 1:
        fused.append(level[0])
        continue
      parts = jnp.split(
        kernel.astype(self.dtype),
        [sum(channels[: j + 1]) for j in range(len(channels) - 1)],
      )
      masks = [present.get(modality) for modality in maps]
      fused.append(
        _sum_of_projections(level, parts, masks) + bias.astype(self.dtype)
      )
    return fused


def _sum_of_projections(level, kernels, masks):
  """Projects each map and sums them on the grid of the first."""
  size = level[0].shape[1:3]
  sums = {}
  for x, kernel, mask in zip(level, kernels, masks, strict=True):
    if x.shape[1] * x.shape[2] > size[0] * size[1]:
      x = layers.resize(x, size)
    y = convolution.project(x.astype(kernel.dtype), kernel)
    if mask is not None:
      y = jnp.where(mask[:, None, None, None], y, 0.0)
    # Maps of one size are enlarged together.
    sums[y.shape] = sums[y.shape] + y if y.shape in sums else y
  return sum(layers.resize(y, size) for y in sums.values())


class UnusedFusion(nn.Module):
  """The layer that the reference keeps in files of networks without images."""

  @nn.compact
  def __call__(self) -> None:
    """Makes the two parameters."""
    self.param("kernel_0", initialise.torch_uniform(1), (1, 1))
    self.param("bias_0", initialise.torch_uniform(1), (1,))


def mean_of_logits(
  logits: Mapping[str, Float[Array, "b h w k"]],
  present: Mapping[str, Bool[Array, "b"]],
) -> Float[Array, "b h w k"]:
  """Averages over the modalities a sample has; zeros if it has none."""
  total, number = 0.0, 0.0
  for modality, x in logits.items():
    weight = jnp.ones((x.shape[0], 1, 1, 1))
    if modality in present:
      weight = present[modality].astype(jnp.float32)[:, None, None, None]
    total, number = total + weight * x, number + weight
  return total / jnp.maximum(number, 1.0)
