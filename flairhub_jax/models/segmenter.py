"""The whole network: inputs, and a strategy of fusion."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import fusion, initialise
from flairhub_jax.models import normalise as normalise_lib

# Precision of float32 products, see `jax.default_matmul_precision`; the first
# is JAX's default.
PRECISIONS = ("default", "high", "highest")


def _precisely(method):
  """Runs a method of `Segmenter` with the network's precision of products."""

  @functools.wraps(method)
  def precise(self, *args, **kwargs):
    context = contextlib.nullcontext()
    if self.precision != PRECISIONS[0]:
      context = jax.default_matmul_precision(self.precision)
    with context:
      return method(self, *args, **kwargs)

  return precise


class Segmenter(nn.Module):
  """Maps a batch of several modalities to logits per task.

  It normalises inputs, drops modalities in training, and holds the uncertainty
  of each task. The rest, and its parameters, is the strategy's.

  Attributes:
    inputs: the modalities, images before series.
    tasks: id and number of classes of each task, before any merge.
    strategy: encoders, fusion, decoders.
    modality_dropout: modality -> probability that training drops it from a
      sample.
    learns_task_weights: whether the uncertainty of each task is a parameter,
      by which the loss weights it.
    precision: one of `PRECISIONS`, of products and their gradients.
    deterministic: whether programs should be compiled to give the same numbers
      each time (`mesh.compiler_options`).
    merged: task and, for each of its classes, the position of the merged class;
      the probability of a merged class is the sum of those of its classes.
    class_bias: task and what is added to the logits of its classes, one number
      each; tasks without an entry have none.
  """

  inputs: tuple[normalise_lib.InputSpec, ...]
  tasks: tuple[tuple[str, int], ...]
  strategy: fusion.Fusion
  modality_dropout: tuple[tuple[str, float], ...] = ()
  learns_task_weights: bool = False
  precision: str = PRECISIONS[0]
  deterministic: bool = False
  merged: tuple[tuple[str, tuple[int, ...]], ...] = ()
  class_bias: tuple[tuple[str, tuple[float, ...]], ...] = ()

  def setup(self):
    """Gives the modules of the strategy no prefix."""
    nn.share_scope(self, self.strategy)
    if self.learns_task_weights:
      self.log_variance = {
        task: self.param(f"log_variance_{task}", initialise.zeros, ())
        for task, _ in self.tasks
      }

  @_precisely
  def __call__(
    self, batch: Mapping[str, Any], train: bool = False
  ) -> dict[str, Any]:
    """Runs the network.

    Args:
      batch: `inputs[modality]` [b h w c] or [b t h w c] as stored, all bands;
        for series `dates[modality]` int32 [b t], days from the reference
        date, and `valid[modality]` bool [b t], False on padding;
        `present[modality]` bool [b], False for samples that lack it.
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
    """Encodes each modality by itself; early fusion only normalises."""
    encoded: dict[str, Any] = {}
    for spec in self.inputs:
      modality = spec.modality
      arrays = (normalise_lib.normalise(batch["inputs"][modality], spec),)
      if spec.is_series:
        arrays += (batch["dates"][modality], batch["valid"][modality])
      encoded[modality] = self.strategy.encode(modality, arrays, train)
    return encoded

  @_precisely
  def decode(
    self,
    encoded: Mapping[str, Any],
    present: fusion.Present,
    train: bool,
  ) -> dict[str, Any]:
    """Fuses and decodes the results of `encode`.

    Args:
      encoded: by modality, in any order.
      present: modality -> bool [b], False for samples that lack it.
      train: see `__call__`.
    """
    # A mapping that has passed through `jit` comes back sorted by name.
    encoded = {spec.modality: encoded[spec.modality] for spec in self.inputs}
    outputs = self.strategy(encoded, present, train)
    logits = self._merge(outputs["logits"])
    aux = {m: self._merge(own) for m, own in outputs["aux"].items()}
    for task, bias in self.class_bias:
      logits[task] = logits[task] + jnp.asarray(bias, jnp.float32)
    return {**outputs, "logits": logits, "aux": aux}

  def _merge(self, logits):
    """Logits of the merged classes: softmax gives sums of probabilities."""
    logits = dict(logits)
    for task, groups in self.merged:
      logits[task] = merge_logits(logits[task], groups)
    return logits

  def _drop_modalities(self, batch, present):
    """Returns `present` after dropout: each sample has at least one modality.

    Where a draw would drop all, one of those present is left, each with the
    same probability.
    """
    rates = dict(self.modality_dropout)
    names = [spec.modality for spec in self.inputs]
    samples = batch["inputs"][names[0]].shape[0]
    before = fusion.presence(names, present, samples)
    keys = jax.random.split(self.make_rng("dropout"))
    rate = jnp.array([rates.get(name, 0.0) for name in names])[:, None]
    after = before & (jax.random.uniform(keys[0], before.shape) >= rate)
    lot = jnp.where(before, jax.random.uniform(keys[1], before.shape), -1.0)
    chosen = before & (lot == lot.max(0))
    after = jnp.where(after.any(0), after, chosen)
    return dict(zip(names, after, strict=True))


def merge_logits(
  logits: Float[Array, "b h w k"], groups: Sequence[int]
) -> Float[Array, "b h w m"]:
  """Logits whose softmax is the sum of the softmax over each group.

  Args:
    logits: of the classes.
    groups: for each class, the position of its group.
  """
  merged = []
  for group in range(max(groups) + 1):
    members = [i for i, other in enumerate(groups) if other == group]
    own = logits[..., np.array(members)]
    merged.append(jax.nn.logsumexp(own, axis=-1))
  return jnp.stack(merged, axis=-1)
