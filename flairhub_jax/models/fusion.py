"""The interface of fusion strategies, masks and modality weights."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import layers
from flairhub_jax.models.normalise import InputSpec

Present = Mapping[str, Bool[Array, "b"]]

# Collection of the fusion weights of the modalities.
MODALITY_WEIGHTS = "modality_weights"
# Collection of the decoder inputs, under `fused`, if mutable in `apply`. Flax
# excludes it from `init`.
FEATURES = "intermediates"


class Fusion(nn.Module):
  """A fusion strategy: encoders, decoders, and the fusion between them.

  A subclass adds its decoders to `setup` and defines
  `__call__(encoded, present, train) -> {"logits": …, "aux": …}`: `encoded` has
  the result of `encode` for each modality; `present[modality]` bool [b] is
  False for samples that lack it; outputs are those of `Segmenter`.

  Attributes:
    inputs: the modalities, images before series.
    tasks: id and number of classes of each task.
    auxiliary_modalities: ids of the modalities with auxiliary decoders.
    output_size: rows and columns of the logits.
    image_encoder: constructor of image encoders, `(x, train) -> features`.
    series_encoder: constructor of series encoders,
      `(x, days, valid, train) -> (logits, features)`; its argument `has_head`
      enables the logits.
    image_decoder: constructor of decoders, `(features, train) -> logits`; its
      argument is `num_classes`.
    mixture: class of the fusion module; None if the strategy has none.
    options: attributes of the fusion module, by name.
    dtype: of the products.
  """

  inputs: tuple[InputSpec, ...]
  tasks: tuple[tuple[str, int], ...]
  auxiliary_modalities: tuple[str, ...]
  output_size: tuple[int, int]
  image_encoder: Callable[..., nn.Module]
  series_encoder: Callable[..., nn.Module]
  image_decoder: Callable[..., nn.Module]
  mixture: Any = None
  options: tuple[tuple[str, Any], ...] = ()
  dtype: Any = jnp.float32

  # Whether features of images and series are fused level by level.
  fuses_features = False
  # Whether the strategy stores decoder inputs in `FEATURES`.
  has_features = True

  @property
  def has_modality_weights(self) -> bool:
    """Whether the strategy stores `MODALITY_WEIGHTS`."""
    return getattr(self.mixture, "has_weights", False)

  def setup(self):
    """Builds one encoder per modality."""
    self.encoder = {
      spec.modality: self.series_encoder(has_head=self.reads_logits(spec))
      if spec.is_series
      else self.image_encoder()
      for spec in self.inputs
    }

  def reads_logits(self, spec: InputSpec) -> bool:
    """Whether the logits of a series' encoder are used."""
    return spec.is_series

  def encode(self, modality: str, arrays: tuple[Any, ...], train: bool) -> Any:
    """Encodes one modality.

    Args:
      modality: its id.
      arrays: the normalised input; for a series also days and valid dates.
      train: whether to use batch statistics and dropout.
    """
    return self.encoder[modality](*arrays, train)

  def decoders_of_tasks(self) -> dict[str, nn.Module]:
    """Builds a decoder per task, for `decode`."""
    return {
      task: self.image_decoder(num_classes=classes)
      for task, classes in self.tasks
    }

  def decode(self, features: list[Any], train: bool) -> dict[str, Any]:
    """Runs the decoder of each task; returns logits by task."""
    self.sow(FEATURES, "fused", features)
    return {task: self.decoder[task](features, train) for task, _ in self.tasks}

  def decoders_of(self, modalities: tuple[str, ...]) -> dict[str, nn.Module]:
    """Builds a decoder per modality and task, named `<modality>__<task>`."""
    series = {spec.modality for spec in self.inputs if spec.is_series}
    return {
      f"{modality}__{task}": layers.Dense(classes)
      if modality in series
      else self.image_decoder(num_classes=classes)
      for modality in modalities
      for task, classes in self.tasks
    }

  def logits_of(
    self,
    decoders: Mapping[str, nn.Module],
    modalities: tuple[str, ...],
    encoded: Mapping[str, Any],
    train: bool,
  ) -> dict[str, dict[str, Float[Array, "b h w k"]]]:
    """Runs decoders of `decoders_of`; returns logits by modality and task."""
    series = {spec.modality for spec in self.inputs if spec.is_series}

    def decode(modality, decoder):
      if modality not in series:
        return decoder(encoded[modality], train)
      # A linear layer commutes with upsampling.
      return layers.resize(decoder(encoded[modality][0]), self.output_size)

    return {
      modality: {
        task: decode(modality, decoders[f"{modality}__{task}"])
        for task, _ in self.tasks
      }
      for modality in modalities
    }


class Kind(NamedTuple):
  """An entry of the table of fusion strategies.

  Attributes:
    strategy: subclass of `Fusion`.
    mixture: of the strategy.
    options: names of the strategy's options, fields of `config.fusion.<kind>`.
  """

  strategy: Any
  mixture: Any = None
  options: tuple[str, ...] = ()


def sow_weights(
  module: nn.Module, level: int, weights: Float[Array, "n b h w"]
) -> None:
  """Stores the modality weights of a level in `MODALITY_WEIGHTS`."""
  if not module.is_initializing():
    module.sow(MODALITY_WEIGHTS, f"level_{level}", weights)


def presence(
  modalities: Iterable[str], present: Present, samples: int
) -> Bool[Array, "n b"]:
  """Mask of the samples with each modality; all True without an entry."""
  everywhere = jnp.ones(samples, bool)
  return jnp.stack([present.get(m, everywhere) for m in modalities])


def _expand(mask, x):
  """Expands a mask [n b] to the rank of `x` [n b …]."""
  return mask.reshape(*mask.shape, *(1,) * (x.ndim - 2))


def masked_mean(
  x: Float[Array, "n b *r"], mask: Bool[Array, "n b"]
) -> Float[Array, "b *r"]:
  """Mean over the modalities present; zeros where none is."""
  mask = _expand(mask, x)
  number = jnp.maximum(mask.sum(0), 1).astype(x.dtype)
  return jnp.where(mask, x, 0.0).sum(0) / number


def masked_softmax(
  scores: Float[Array, "n b *r"], mask: Bool[Array, "n b"]
) -> Float[Array, "n b *r"]:
  """Weights that sum to 1 over the modalities present; zeros where none is."""
  mask = _expand(mask, scores)
  scores = jnp.where(mask, scores, -1e9)
  return jnp.where(mask, jax.nn.softmax(scores, axis=0), 0.0)
