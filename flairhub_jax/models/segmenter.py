"""The whole network: encoders, fusion, decoders."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flairhub_jax.models import fusion as fusion_lib
from flairhub_jax.models import layers
from flairhub_jax.models import normalise as normalise_lib


class Segmenter(nn.Module):
  """Maps a batch of several modalities to logits per task.

  Attributes:
    sources: the modalities, images before series.
    tasks: id and number of classes of each task.
    auxiliary: ids of the modalities that get decoders of their own.
    output_size: rows and columns of the logits.
    image_encoder: makes the encoder of an image, `(x, train) -> maps`.
    series_encoder: makes that of a series,
      `(x, days, valid, train) -> (logits, maps)`.
    fusion: makes the module that joins maps, `(maps, present) -> maps`.
    decoder: makes a decoder from `num_classes`, `(maps, train) -> logits`.
    dtype: type of the products; logits are float32.
  """

  sources: tuple[normalise_lib.Source, ...]
  tasks: tuple[tuple[str, int], ...]
  auxiliary: tuple[str, ...]
  output_size: tuple[int, int]
  image_encoder: Callable[..., nn.Module]
  series_encoder: Callable[..., nn.Module]
  fusion: Callable[..., nn.Module]
  decoder: Callable[..., nn.Module]
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, batch: Mapping[str, Any], train: bool = False
  ) -> dict[str, Any]:
    """Runs the network.

    Args:
      batch: `inputs[modality]` [b h w c] or [b t h w c] as stored, all bands;
        for series `dates[modality]` int32 [b t], days from the reference
        date, and `valid[modality]` bool [b t], False on padding;
        `present[modality]` bool [b], True where left out.
      train: batch statistics and dropout (`rngs={"dropout": …}`,
        `mutable=["batch_stats"]`).

    Returns:
      `{"logits": {task: float32 [b h w k]}, "aux": {modality: {task: …}}}`.
    """
    present = batch.get("present", {})
    image_maps, series_maps, series_logits = {}, {}, {}
    for source in self.sources:
      modality = source.modality
      x = normalise_lib.normalise(batch["inputs"][modality], source)
      if source.is_series:
        encoder = self.series_encoder(name=f"encoder_{modality}")
        series_logits[modality], series_maps[modality] = encoder(
          x, batch["dates"][modality], batch["valid"][modality], train
        )
      else:
        encoder = self.image_encoder(name=f"encoder_{modality}")
        image_maps[modality] = encoder(x, train)
    if image_maps:
      logits = self._decode(
        self.fusion(name="fusion")(image_maps | series_maps, present), train
      )
    else:
      logits = self._shared_logits(
        fusion_lib.mean_of_logits(series_logits, present)
      )
    aux = self._auxiliary(image_maps, series_logits, train)
    return {"logits": logits, "aux": aux}

  def _decode(self, maps, train):
    """One decoder per task on the same maps."""
    return {
      task: self.decoder(num_classes=classes, name=f"decoder_{task}")(
        maps, train
      )
      for task, classes in self.tasks
    }

  def _shared_logits(self, x):
    """Logits of a network without images: the series' own."""
    fusion_lib.UnusedFusion(name="fusion")()
    logits = {}
    for task, classes in self.tasks:
      # With one task the head exists, as in the reference's files, unused.
      head = self._head(f"decoder_{task}", classes)(x)
      y = head if len(self.tasks) > 1 else x
      logits[task] = layers.resize(y, self.output_size)
    return logits

  def _auxiliary(self, image_maps, series_logits, train):
    """Logits of each modality's own decoders."""
    aux: dict[str, dict[str, Float[Array, "b h w k"]]] = {}
    for modality in self.auxiliary:
      aux[modality] = {}
      for task, classes in self.tasks:
        name = f"auxiliary_{modality}__{task}"
        if modality in image_maps:
          decoder = self.decoder(num_classes=classes, name=name)
          aux[modality][task] = decoder(image_maps[modality], train)
        else:
          x = self._head(name, classes)(series_logits[modality])
          aux[modality][task] = layers.resize(x, self.output_size)
    return aux

  def _head(self, name, classes):
    """A linear map of logits, before they are enlarged: it commutes."""
    return layers.Dense(classes, name=name)
