"""How the maps of several modalities become those of one, level by level.

A fusion takes the maps of each modality and who has which, and returns one map
per level on the grid, and at the width, of the first modality. Levels are
joined as they come: the deepest of a U-TAE with the shallowest of an image
encoder, as the reference does.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flairhub_jax.models import convolution, initialise, layers, norms

Maps = Mapping[str, list[Float[Array, "b _ _ _"]]]
Present = Mapping[str, Bool[Array, "b"]]

# Collection of the weights that a fusion gave each modality.
USAGE = "usage"
_HEADS = 4
_KEY_WIDTH = 16


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
    self, maps: Maps, present: Present
  ) -> list[Float[Array, "b _ _ _"]]:
    """Fuses; what a sample lacks counts as zeros.

    A single modality passes through; its layers exist, as in the reference's
    files, but are not used.
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


class MidMean(nn.Module):
  """Averages the projected maps of the modalities that a sample has.

  Attributes:
    dtype: type of the products.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, maps: Maps, present: Present
  ) -> list[Float[Array, "b _ _ _"]]:
    """Fuses; what a sample lacks has no influence."""
    fused = []
    for i, level in enumerate(zip(*maps.values(), strict=True)):
      tokens = _project(maps, level, i, self.dtype)
      mask = presence(maps, present, level[0].shape[0])
      fused.append(masked_mean(tokens, mask))
    return fused


class MidGated(nn.Module):
  """Mixes projected maps by weights that each pixel learns.

  Attributes:
    dtype: type of the products; weights are float32.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, maps: Maps, present: Present
  ) -> list[Float[Array, "b _ _ _"]]:
    """Fuses; what a sample lacks has no influence."""
    fused = []
    for i, level in enumerate(zip(*maps.values(), strict=True)):
      tokens = _project(maps, level, i, self.dtype)
      gates = [
        layers.Dense(1, kernel_init=initialise.zeros, name=f"gate_{m}_{i}")(x)
        for m, x in zip(maps, tokens, strict=True)
      ]
      mask = presence(maps, present, level[0].shape[0])
      weights = masked_softmax(jnp.stack(gates).astype(jnp.float32), mask)
      tell_usage(self, i, weights[..., 0])
      fused.append((weights.astype(self.dtype) * tokens).sum(0))
    return fused


class MidAttention(nn.Module):
  """Attends from the mean of a place's modalities to each of them.

  Attributes:
    dtype: type of the products; weights are float32.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, maps: Maps, present: Present
  ) -> list[Float[Array, "b _ _ _"]]:
    """Fuses; what a sample lacks has no influence."""
    fused = []
    for i, level in enumerate(zip(*maps.values(), strict=True)):
      tokens = _project(maps, level, i, self.dtype)
      mask = presence(maps, present, level[0].shape[0])
      mean = masked_mean(tokens, mask)
      fused.append(mean + self._attend(tokens, mean, mask, i))
    return fused

  def _attend(self, tokens, mean, mask, i):
    """What the modalities add to their mean, [b h w c]."""
    width = mean.shape[-1]
    split = (_HEADS, _KEY_WIDTH)

    def dense(features, name):
      return layers.Dense(features, dtype=self.dtype, name=f"{name}_{i}")

    # The same keys for all modalities: their projections tell them apart.
    norm = norms.LayerNorm(dtype=self.dtype, name=f"norm_{i}")
    tokens, mean = norm(tokens), norm(mean)
    keys = dense(_HEADS * _KEY_WIDTH, "key")(tokens)
    query = dense(_HEADS * _KEY_WIDTH, "query")(mean)
    query = query.reshape(*query.shape[:-1], *split)
    keys = keys.reshape(*keys.shape[:-1], *split)
    scores = (keys * query).sum(-1) * _KEY_WIDTH**-0.5
    weights = masked_softmax(scores.astype(jnp.float32), mask)
    tell_usage(self, i, weights.mean(-1))
    values = dense(width, "value")(tokens)
    values = values.reshape(*values.shape[:-1], _HEADS, -1)
    mixed = (weights.astype(self.dtype)[..., None] * values).sum(0)
    return dense(width, "output")(mixed.reshape(*mixed.shape[:-2], width))


def _project(maps, level, i, dtype):
  """Maps of a level at one width on one grid, [n b h w c]."""
  size, width = level[0].shape[1:3], level[0].shape[-1]
  projected = []
  for modality, x in zip(maps, level, strict=True):
    dense = layers.Dense(width, dtype=dtype, name=f"project_{modality}_{i}")
    # A projection commutes with a resize: first whichever is smaller.
    if x.shape[1] * x.shape[2] > size[0] * size[1]:
      x = layers.resize(x, size)
    projected.append(layers.resize(dense(x), size))
  return jnp.stack(projected)


def tell_usage(
  module: nn.Module, level: int, weights: Float[Array, "n b h w"]
) -> None:
  """Leaves the weights of a level to callers with `mutable=["usage"]`."""
  if not module.is_initializing():
    module.sow(USAGE, f"level_{level}", weights)


def presence(
  modalities: Mapping[str, Any], present: Present, samples: int
) -> Bool[Array, "n b"]:
  """Which samples have each modality; those without an entry are there."""
  everywhere = jnp.ones(samples, bool)
  return jnp.stack([present.get(m, everywhere) for m in modalities])


def _wide(mask, x):
  """A mask [n b] with the axes of `x` [n b …]."""
  return mask.reshape(*mask.shape, *(1,) * (x.ndim - 2))


def masked_mean(
  x: Float[Array, "n b *r"], mask: Bool[Array, "n b"]
) -> Float[Array, "b *r"]:
  """Mean over those that are there; zeros where none is."""
  mask = _wide(mask, x)
  number = jnp.maximum(mask.sum(0), 1).astype(x.dtype)
  return jnp.where(mask, x, 0.0).sum(0) / number


def masked_softmax(
  scores: Float[Array, "n b *r"], mask: Bool[Array, "n b"]
) -> Float[Array, "n b *r"]:
  """Weights that sum to 1 over those that are there; zeros where none is."""
  mask = _wide(mask, scores)
  scores = jnp.where(mask, scores, -1e9)
  return jnp.where(mask, jax.nn.softmax(scores, axis=0), 0.0)


class UnusedFusion(nn.Module):
  """The layer that the reference keeps in files of networks without images."""

  @nn.compact
  def __call__(self) -> None:
    """Makes the two parameters."""
    self.param("kernel_0", initialise.torch_uniform(1), (1, 1))
    self.param("bias_0", initialise.torch_uniform(1), (1,))
