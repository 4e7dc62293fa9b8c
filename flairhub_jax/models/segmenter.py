"""The whole network: encoders, fusion, decoders."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flairhub_jax.models import early, fusion, initialise, layers
from flairhub_jax.models import normalise as normalise_lib

# Collection of the maps that the decoders read, as `fused`, where `apply` is
# given it as mutable. Flax leaves this one out of `init`.
FEATURES = "intermediates"
# How exact products of float32 are, see `jax.default_matmul_precision`; the
# first leaves it to JAX.
PRECISIONS = ("default", "high", "highest")


def _precisely(method):
  """A method of `Segmenter` whose products have the network's precision."""

  @functools.wraps(method)
  def precise(self, *args, **kwargs):
    context = contextlib.nullcontext()
    if self.precision != PRECISIONS[0]:
      context = jax.default_matmul_precision(self.precision)
    with context:
      return method(self, *args, **kwargs)

  return precise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strategy:
  """Where modalities meet.

  Attributes:
    is_early: all in one image, before one encoder.
    fuse_maps: makes the module that joins maps, `(maps, present) -> maps`;
      None: each modality has decoders of its own.
    mix_logits: makes the module that joins logits, where each modality, or
      each series of a network without images, has its own.
    has_weights: whether it tells how much each modality counts
      (`fusion.tell_usage`).
    has_unused_fusion: whether a network without images keeps the parameters
      that the reference's files have.
  """

  is_early: bool = False
  fuse_maps: Callable[..., nn.Module] | None = None
  mix_logits: Callable[..., nn.Module] | None = None
  has_weights: bool = False
  has_unused_fusion: bool = False


class Segmenter(nn.Module):
  """Maps a batch of several modalities to logits per task.

  Attributes:
    sources: the modalities, images before series.
    tasks: id and number of classes of each task.
    auxiliary_modalities: ids of the modalities that get decoders of their own.
    output_size: rows and columns of the logits.
    strategy: where the modalities meet.
    image_encoder: makes the encoder of an image, `(x, train) -> maps`.
    series_encoder: makes that of a series,
      `(x, days, valid, train) -> (logits, maps)`.
    image_decoder: makes a decoder from `num_classes`,
      `(maps, train) -> logits`.
    modality_dropout: modality -> probability that training leaves it out of a
      sample.
    learns_task_weights: whether each task's uncertainty is a parameter, which
      the loss weighs it by.
    dtype: type of the products; logits are float32.
    precision: one of `PRECISIONS`, of products and their gradients.
    deterministic: whether who compiles it should ask for the same numbers each
      time (`mesh.compiler_options`).
  """

  sources: tuple[normalise_lib.Source, ...]
  tasks: tuple[tuple[str, int], ...]
  auxiliary_modalities: tuple[str, ...]
  output_size: tuple[int, int]
  strategy: Strategy
  image_encoder: Callable[..., nn.Module]
  series_encoder: Callable[..., nn.Module]
  image_decoder: Callable[..., nn.Module]
  modality_dropout: tuple[tuple[str, float], ...] = ()
  learns_task_weights: bool = False
  dtype: Any = jnp.float32
  precision: str = PRECISIONS[0]
  deterministic: bool = False

  def setup(self):
    """Names the parts; those that are never called have no parameters."""
    self.images = tuple(s.modality for s in self.sources if not s.is_series)
    if self.learns_task_weights:
      self.log_variance = {
        task: self.param(f"log_variance_{task}", initialise.zeros, ())
        for task, _ in self.tasks
      }
    has_maps = self.strategy.is_early or (self.images and not self.fuses_logits)
    if self.strategy.is_early:
      self.stack = early.Stack()
      self.encoder = {"early": self.image_encoder()}
    else:
      self.encoder = {
        s.modality: self.series_encoder()
        if s.is_series
        else self.image_encoder()
        for s in self.sources
      }
      self.auxiliary = {
        f"{modality}__{task}": self._own_decoder(modality, classes)
        for modality in (() if self.fuses_logits else self.auxiliary_modalities)
        for task, classes in self.tasks
      }
    if has_maps:
      self.decoder = {
        task: self.image_decoder(num_classes=classes)
        for task, classes in self.tasks
      }
    elif self.fuses_logits:
      self.decoder = {
        f"{s.modality}__{task}": self._own_decoder(s.modality, classes)
        for s in self.sources
        for task, classes in self.tasks
      }
      self.mix = {task: self.strategy.mix_logits() for task, _ in self.tasks}
    else:
      self.decoder = {
        task: layers.Dense(classes) for task, classes in self.tasks
      }
      self.mix = self.strategy.mix_logits()
    if has_maps and not self.strategy.is_early:
      self.fusion = self.strategy.fuse_maps()
    elif not has_maps and self.strategy.has_unused_fusion:
      self.fusion = fusion.UnusedFusion()

  def _own_decoder(self, modality, classes):
    """What makes logits of one modality alone."""
    if modality in self.images:
      return self.image_decoder(num_classes=classes)
    return layers.Dense(classes)

  @_precisely
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
      `{"logits": {task: float32 [b h w k]}, "aux": {modality: {task: …}}}`, and
      `"log_variance": {task: []}` where those are learned.
    """
    present = batch.get("present", {})
    if train and any(rate for _, rate in self.modality_dropout):
      present = self._drop_modalities(batch, present)
    outputs = self.decode(self.encode(batch, train), present, train)
    if self.learns_task_weights:
      outputs["log_variance"] = self.log_variance
    return outputs

  @_precisely
  def encode(self, batch: Mapping[str, Any], train: bool) -> dict[str, Any]:
    """What each modality gives by itself; early fusion only normalises."""
    encoded: dict[str, Any] = {}
    for source in self.sources:
      modality = source.modality
      x = normalise_lib.normalise(batch["inputs"][modality], source)
      when = (
        (batch["dates"][modality], batch["valid"][modality])
        if source.is_series
        else ()
      )
      if self.strategy.is_early:
        encoded[modality] = (x, *when)
      else:
        encoded[modality] = self.encoder[modality](x, *when, train)
    return encoded

  @_precisely
  def decode(
    self,
    encoded: Mapping[str, Any],
    present: fusion.Present,
    train: bool,
  ) -> dict[str, Any]:
    """Fuses what `encode` gave, for the modalities that are there."""
    # A mapping that has passed through `jit` comes back sorted by name.
    encoded = {s.modality: encoded[s.modality] for s in self.sources}
    if self.strategy.is_early:
      x = self._stacked(encoded, present, train)
      maps = self.encoder["early"](x, train)
      return {"logits": self._decoded(maps, train), "aux": {}}
    maps = {
      m: output if m in self.images else output[1]
      for m, output in encoded.items()
    }
    shared = {m: encoded[m][0] for m in encoded if m not in self.images}
    if self.fuses_logits:
      return self._late(maps, shared, present, train)
    if self.images:
      logits = self._decoded(self.fusion(maps, present), train)
    else:
      logits = self._shared_logits(self.mix(shared, present))
    aux = {
      m: {
        task: self._own_logits(self.auxiliary, m, task, maps, shared, train)
        for task, _ in self.tasks
      }
      for m in self.auxiliary_modalities
    }
    return {"logits": logits, "aux": aux}

  @property
  def fuses_logits(self) -> bool:
    """Whether modalities meet after their decoders, so that no maps do."""
    has_images = any(not source.is_series for source in self.sources)
    return has_images and not (
      self.strategy.is_early or self.strategy.fuse_maps
    )

  def _decoded(self, maps, train):
    """One decoder per task on the same maps."""
    self.sow(FEATURES, "fused", maps)
    return {task: self.decoder[task](maps, train) for task, _ in self.tasks}

  def _shared_logits(self, x):
    """Logits of a network without images: the series' own."""
    self.sow(FEATURES, "fused", [x])
    if self.strategy.has_unused_fusion:
      self.fusion()
    logits = {}
    for task, _ in self.tasks:
      # With one task the head exists, as in the reference's files, unused.
      head = self.decoder[task](x)
      y = head if len(self.tasks) > 1 else x
      logits[task] = layers.resize(y, self.output_size)
    return logits

  def _own_logits(self, decoders, modality, task, maps, shared, train):
    """Logits of one modality's own decoder."""
    decoder = decoders[f"{modality}__{task}"]
    if modality in self.images:
      return decoder(maps[modality], train)
    # A linear map commutes with enlarging.
    return layers.resize(decoder(shared[modality]), self.output_size)

  def _late(self, maps, shared, present, train):
    """Each modality's own logits, and their mixture."""
    own = {
      task: {
        m: self._own_logits(self.decoder, m, task, maps, shared, train)
        for m in maps
      }
      for task, _ in self.tasks
    }
    return {
      "logits": {task: self.mix[task](x, present) for task, x in own.items()},
      "aux": {
        m: {task: own[task][m] for task in own}
        for m in self.auxiliary_modalities
      },
    }

  def _stacked(self, encoded, present, train):
    """The one image of early fusion."""
    inputs = {m: values[0] for m, values in encoded.items()}
    series = {m: values[1:] for m, values in encoded.items() if values[1:]}
    dates = {m: days for m, (days, _) in series.items()}
    valid = {m: kept for m, (_, kept) in series.items()}
    return self.stack(inputs, dates, valid, present, train)

  def _drop_modalities(self, batch, present):
    """Who has what after dropout: each sample keeps at least one.

    Where a draw would leave nothing, one of what there was stays, any with
    the same probability.
    """
    rates = dict(self.modality_dropout)
    names = [source.modality for source in self.sources]
    samples = batch["inputs"][names[0]].shape[0]
    there = fusion.presence(names, present, samples)
    keys = jax.random.split(self.make_rng("dropout"))
    rate = jnp.array([rates.get(name, 0.0) for name in names])[:, None]
    kept = there & (jax.random.uniform(keys[0], there.shape) >= rate)
    lot = jnp.where(there, jax.random.uniform(keys[1], there.shape), -1.0)
    chosen = there & (lot == lot.max(0))
    kept = jnp.where(kept.any(0), kept, chosen)
    return dict(zip(names, kept, strict=True))
