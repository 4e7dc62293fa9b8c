"""Late fusion: mixtures of the logits of several modalities."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import fusion, initialise, layers

_GATE_WIDTH = 8

Logits = Mapping[str, Float[Array, "b h w k"]]


class LateFusion(fusion.Fusion):
  """Decodes each modality separately; one mixture of logits per task.

  `mixture` is a module `(logits by modality, present) -> logits`.
  """

  has_features = False

  def setup(self):
    """Adds decoders per modality and task, and a mixture per task."""
    super().setup()
    self.decoder = self.decoders_of(tuple(s.modality for s in self.inputs))
    self.mix = {
      task: self.mixture(**dict(self.options)) for task, _ in self.tasks
    }

  def __call__(self, encoded, present, train):
    """Decodes and mixes; auxiliary outputs are the logits of each modality."""
    own = self.logits_of(self.decoder, tuple(encoded), encoded, train)
    return {
      "logits": {
        task: self.mix[task](
          {modality: logits[task] for modality, logits in own.items()}, present
        )
        for task, _ in self.tasks
      },
      "aux": {m: own[m] for m in self.auxiliary_modalities},
    }


class SeriesFusion(fusion.Fusion):
  """Mixes the logits of series, followed by a head per task.

  A single task has no head: the mixture is its logits. `mixture` is as in
  `LateFusion`.
  """

  def setup(self):
    """Adds the mixture, heads, and auxiliary decoders."""
    super().setup()
    self.mix = self.mixture(**dict(self.options))
    self.decoder = {
      task: layers.Dense(classes)
      for task, classes in self.tasks
      if len(self.tasks) > 1
    }
    self.auxiliary = self.decoders_of(self.auxiliary_modalities)

  def __call__(self, encoded, present, train):
    """Mixes and decodes."""
    x = self.mix({m: encoded[m][0] for m in encoded}, present)
    self.sow(fusion.FEATURES, "fused", [x])
    logits = {
      task: self.decoder[task](x) if self.decoder else x
      for task, _ in self.tasks
    }
    return {
      "logits": {
        task: layers.resize(y, self.output_size) for task, y in logits.items()
      },
      "aux": self.logits_of(
        self.auxiliary, self.auxiliary_modalities, encoded, train
      ),
    }


class MeanLogits(nn.Module):
  """Averages over the modalities present in a sample."""

  has_weights = False

  @nn.compact
  def __call__(
    self, logits: Logits, present: fusion.Present
  ) -> Float[Array, "b h w k"]:
    """Mixes the logits; missing modalities are masked out."""
    stacked = jnp.stack(list(logits.values()))
    mask = fusion.presence(logits, present, stacked.shape[1])
    return fusion.masked_mean(stacked, mask)


class GatedLogits(nn.Module):
  """Mixes with learned weights per pixel, computed from the logits."""

  has_weights = True

  @nn.compact
  def __call__(
    self, logits: Logits, present: fusion.Present
  ) -> Float[Array, "b h w k"]:
    """Mixes the logits; missing modalities are masked out."""
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
    fusion.sow_weights(self, 0, weights[..., 0])
    return (weights * stacked).sum(0)
