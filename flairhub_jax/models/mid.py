"""Mid fusion: features of several modalities are fused to one pyramid.

A mixture takes features by modality and the masks of presence, and returns one
array per level with the grid and width of the first modality. Levels are fused
in list order: the deepest of a U-TAE with the shallowest of an image encoder,
as in the reference.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.errors import InputError
from flairhub_jax.models import convolution, fusion, initialise, layers, norms

Features = Mapping[str, list[Float[Array, "b _ _ _"]]]


class MidFusion(fusion.Fusion):
  """Fuses the features of images and series; one decoder per task.

  `mixture` is a module `(features by modality, present) -> features`.
  """

  fuses_features = True

  def setup(self):
    """Adds the fusion, and decoders per task and per auxiliary modality."""
    super().setup()
    self.fusion = self.mixture(**dict(self.options), dtype=self.dtype)
    self.decoder = self.decoders_of_tasks()
    self.auxiliary = self.decoders_of(self.auxiliary_modalities)

  def reads_logits(self, spec) -> bool:
    """Whether a series has auxiliary decoders, which read its logits."""
    return spec.is_series and spec.modality in self.auxiliary_modalities

  def __call__(self, encoded, present, train):
    """Fuses and decodes."""
    features = {
      spec.modality: encoded[spec.modality][1]
      if spec.is_series
      else encoded[spec.modality]
      for spec in self.inputs
    }
    return {
      "logits": self.decode(self.fusion(features, present), train),
      "aux": self.logits_of(
        self.auxiliary, self.auxiliary_modalities, encoded, train
      ),
    }


def levels_of(features: Features) -> Iterator[tuple[int, tuple[Any, ...]]]:
  """Yields index and features of each level that decoders read.

  The first of six is a ResNet's image (`layers.without_image`).
  """
  levels = list(enumerate(zip(*features.values(), strict=True)))
  yield from layers.without_image(levels)


class MidConcat(nn.Module):
  """Concatenates resized features by level, then applies a 1x1 convolution.

  Implemented as a sum of projections that are resized afterwards: the same
  result without the concatenation.

  Attributes:
    dtype: of the products.
  """

  dtype: Any = jnp.float32

  has_weights = False

  @nn.compact
  def __call__(
    self, features: Features, present: fusion.Present
  ) -> list[Float[Array, "b _ _ _"]]:
    """Fuses the features; missing modalities are zeros.

    A single modality is returned unchanged.
    """
    if len(features) == 1:
      return [x for _, (x,) in levels_of(features)]
    fused = []
    for i, level in levels_of(features):
      channels = [x.shape[-1] for x in level]
      width = channels[0]
      fan_in = initialise.torch_uniform(sum(channels))
      kernel = self.param(f"kernel_{i}", fan_in, (sum(channels), width))
      bias = self.param(f"bias_{i}", fan_in, (width,))
      parts = jnp.split(
        kernel.astype(self.dtype),
        [sum(channels[: j + 1]) for j in range(len(channels) - 1)],
      )
      masks = [present.get(modality) for modality in features]
      fused.append(
        _sum_of_projections(level, parts, masks) + bias.astype(self.dtype)
      )
    return fused


def _sum_of_projections(level, kernels, masks):
  """Projects features and sums them on the grid of the first."""
  size = level[0].shape[1:3]
  sums = {}
  for x, kernel, mask in zip(level, kernels, masks, strict=True):
    if x.shape[1] * x.shape[2] > size[0] * size[1]:
      x = layers.resize(x, size)
    y = convolution.project(x.astype(kernel.dtype), kernel)
    if mask is not None:
      y = jnp.where(mask[:, None, None, None], y, 0.0)
    # Features of equal size are summed before they are resized.
    sums[y.shape] = sums[y.shape] + y if y.shape in sums else y
  return sum(layers.resize(y, size) for y in sums.values())


class Mixture(nn.Module):
  """Projects the features of each level and mixes them over the modalities.

  Attributes:
    dtype: of the products; modality weights are float32.
  """

  dtype: Any = jnp.float32

  has_weights = False

  @nn.compact
  def __call__(
    self, features: Features, present: fusion.Present
  ) -> list[Float[Array, "b _ _ _"]]:
    """Fuses the features; missing modalities are masked out."""
    fused = []
    for i, level in levels_of(features):
      tokens = _project(features, level, i, self.dtype)
      mask = fusion.presence(features, present, level[0].shape[0])
      fused.append(self._mix(tuple(features), tokens, mask, i))
    return fused

  def _mix(self, modalities, tokens, mask, i):
    """Mixes features [n b h w c] of level `i` to [b h w c]; mask is [n b]."""
    raise NotImplementedError


class MidMean(Mixture):
  """Averages the projected features over the modalities of a sample."""

  def _mix(self, modalities, tokens, mask, i):
    return fusion.masked_mean(tokens, mask)


class MidGated(Mixture):
  """Mixes projected features with learned weights per pixel."""

  has_weights = True

  def _mix(self, modalities, tokens, mask, i):
    gates = [
      layers.Dense(1, kernel_init=initialise.zeros, name=f"gate_{m}_{i}")(x)
      for m, x in zip(modalities, tokens, strict=True)
    ]
    weights = fusion.masked_softmax(jnp.stack(gates).astype(jnp.float32), mask)
    fusion.sow_weights(self, i, weights[..., 0])
    return (weights.astype(self.dtype) * tokens).sum(0)


class MidAttention(Mixture):
  """Attention over the modalities of a pixel, with their mean as the query.

  Attributes:
    num_heads: number of heads, a divisor of the width of each level.
    key_width: per head.
  """

  num_heads: int = dataclasses.field(kw_only=True)
  key_width: int = dataclasses.field(kw_only=True)

  has_weights = True

  def _mix(self, modalities, tokens, mask, i):
    mean = fusion.masked_mean(tokens, mask)
    return mean + self._attend(tokens, mean, mask, i)

  def _attend(self, tokens, mean, mask, i):
    """The attention output, [b h w c]."""
    width = mean.shape[-1]
    split = (self.num_heads, self.key_width)
    if width % self.num_heads:
      raise InputError(
        "config.fusion.mid_attention.num_heads",
        f"a divisor of {width}, the channels of level {i}",
        self.num_heads,
      )

    def dense(features, name):
      return layers.Dense(features, dtype=self.dtype, name=f"{name}_{i}")

    # One layer for all modalities, which have different projections before.
    norm = norms.LayerNorm(dtype=self.dtype, name=f"norm_{i}")
    tokens, mean = norm(tokens), norm(mean)
    keys = dense(math.prod(split), "key")(tokens)
    query = dense(math.prod(split), "query")(mean)
    query = query.reshape(*query.shape[:-1], *split)
    keys = keys.reshape(*keys.shape[:-1], *split)
    scores = (keys * query).sum(-1) * self.key_width**-0.5
    weights = fusion.masked_softmax(scores.astype(jnp.float32), mask)
    fusion.sow_weights(self, i, weights.mean(-1))
    values = dense(width, "value")(tokens)
    values = values.reshape(*values.shape[:-1], self.num_heads, -1)
    mixed = (weights.astype(self.dtype)[..., None] * values).sum(0)
    return dense(width, "output")(mixed.reshape(*mixed.shape[:-2], width))


def _project(features, level, i, dtype):
  """Projects the features of a level to one width and grid, [n b h w c]."""
  size, width = level[0].shape[1:3], level[0].shape[-1]
  projected = []
  for modality, x in zip(features, level, strict=True):
    dense = layers.Dense(width, dtype=dtype, name=f"project_{modality}_{i}")
    # Projection and resize commute; the projection runs at the smaller size.
    if x.shape[1] * x.shape[2] > size[0] * size[1]:
      x = layers.resize(x, size)
    projected.append(layers.resize(dense(x), size))
  return jnp.stack(projected)
