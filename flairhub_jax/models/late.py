"""How the logits of several modalities become those of one."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flairhub_jax.models import fusion, initialise, layers

_GATE_WIDTH = 8

Logits = Mapping[str, Float[Array, "b h w k"]]


class MeanLogits(nn.Module):
  """Averages over the modalities that a sample has."""

  @nn.compact
  def __call__(
    self, logits: Logits, present: fusion.Present
  ) -> Float[Array, "b h w k"]:
    """Mixes; what a sample lacks has no influence."""
    stacked = jnp.stack(list(logits.values()))
    mask = fusion.presence(logits, present, stacked.shape[1])
    return fusion.masked_mean(stacked, mask)


class GatedLogits(nn.Module):
  """Mixes by weights that each pixel learns from each modality's logits."""

  @nn.compact
  def __call__(
    self, logits: Logits, present: fusion.Present
  ) -> Float[Array, "b h w k"]:
    """Mixes; what a sample lacks has no influence."""
    gates = []
    for modality, x in logits.items():
      hidden = layers.Dense(_GATE_WIDTH, name=f"hidden_{modality}")(x)
      gate = layers.Dense(
        1, kernel_init=initialise.zeros, name=f"gate_{modality}"
      )
      gates.append(gate(layers.gelu(hidden)))
    stacked = jnp.stack(list(logits.values()))
    mask = fusion.presence(logits, present, stacked.shape[1])
    weights = fusion.masked_softmax(jnp.stack(gates), mask)
    fusion.tell_usage(self, 0, weights[..., 0])
    return (weights * stacked).sum(0)
