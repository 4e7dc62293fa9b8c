"""The network: normalised inputs and a fusion strategy."""

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


def _with_precision(method):
  """Runs a method of `Segmenter` with the network's matmul precision."""

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

  It normalises inputs, applies modality dropout, and has the uncertainty of
  each task as a parameter. The strategy does the rest and has all other
  parameters.

  Attributes:
    inputs: the modalities, images before series.
    tasks: id and number of classes of each task, before any merge.
    strategy: encoders, fusion, decoders.
    modality_dropout: modality -> probability that training drops it from a
      sample.
    learns_task_weights: whether the uncertainty of each task, by which the loss
      weights it, is a parameter.
    precision: one of `PRECISIONS`, of products and their gradients.
    deterministic: whether to compile for bitwise reproducibility
      (`mesh.compiler_options`).
    merged: task and, for each of its classes, the index of the merged class;
      the probability of a merged class is the sum over its classes.
    class_bias: task and the bias that is added to the logits of its classes;
      tasks without an entry have none.
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
    """Shares the scope with the strategy, whose modules get no prefix."""
    nn.share_scope(self, self.strategy)
    if self.learns_task_weights:
      self.log_variance = {
        task: self.param(f"log_variance_{task}", initialise.zeros, ())
        for task, _ in self.tasks
      }

  @_with_precision
  def __call__(
    self, batch: Mapping[str, Any], train: bool = False
  ) -> dict[str, Any]:
    """Runs the network.

    Args:
      batch: `inputs[modality]` [b h w c] or [b t h w c] as stored, all bands;
        for series `dates[modality]` int32 [b t], days from the reference
        date, and `valid[modality]` bool [b t], False on padding;
        `present[modality]` bool [b], False for samples that lack it.
      train: whether to use batch statistics and dropout
        (`rngs={"dropout": …}`, `mutable=["batch_stats"]`).

    Returns:
      `{"logits": {task: float32 [b h w k]}, "aux": {modality: {task: …}}}`, and
      `"log_variance": {task: []}` if task weights are learned.
    """
    present = batch.get("present", {})
    if train and any(rate for _, rate in self.modality_dropout):
      present = self._drop_modalities(batch, present)
    outputs = self.decode(self.encode(batch, train), present, train)
    if self.learns_task_weights:
      outputs["log_variance"] = self.log_variance
    return outputs

  @_with_precision
  def encode(self, batch: Mapping[str, Any], train: bool) -> dict[str, Any]:
    """Encodes each modality separately; early fusion only normalises."""
    encoded: dict[str, Any] = {}
    for spec in self.inputs:
      modality = spec.modality
      arrays = (normalise_lib.normalise(batch["inputs"][modality], spec),)
      if spec.is_series:
        arrays += (batch["dates"][modality], batch["valid"][modality])
      encoded[modality] = self.strategy.encode(modality, arrays, train)
    return encoded

  @_with_precision
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
    # Mappings returned by `jit` are sorted by name.
    encoded = {spec.modality: encoded[spec.modality] for spec in self.inputs}
    outputs = self.strategy(encoded, present, train)
    logits = self._merge(outputs["logits"])
    aux = {m: self._merge(own) for m, own in outputs["aux"].items()}
    for task, bias in self.class_bias:
      logits[task] = logits[task] + jnp.asarray(bias, jnp.float32)
    return {**outputs, "logits": logits, "aux": aux}

  def _merge(self, logits):
    """Replaces logits of classes by those of the merged classes."""
    logits = dict(logits)
    for task, groups in self.merged:
      logits[task] = merge_logits(logits[task], groups)
    return logits

  def _drop_modalities(self, batch, present):
    """Returns `present` after dropout; each sample keeps at least one modality.

    If dropout would remove all, one of those present is kept, chosen uniformly.
    """
    rates = dict(self.modality_dropout)
    names = [spec.modality for spec in self.inputs]
    samples = batch["inputs"][names[0]].shape[0]
    before = fusion.presence(names, present, samples)
    keys = jax.random.split(self.make_rng("dropout"))
    rate = jnp.array([rates.get(name, 0.0) for name in names])[:, None]
    after = before & (jax.random.uniform(keys[0], before.shape) >= rate)
    score = jnp.where(before, jax.random.uniform(keys[1], before.shape), -1.0)
    chosen = before & (score == score.max(0))
    after = jnp.where(after.any(0), after, chosen)
    return dict(zip(names, after, strict=True))


def merge_logits(
  logits: Float[Array, "b h w k"], groups: Sequence[int]
) -> Float[Array, "b h w m"]:
  """Returns logits whose softmax sums the softmax over each group of classes.

  Args:
    logits: of the classes.
    groups: for each class, the index of its group.
  """
  merged = []
  for group in range(max(groups) + 1):
    members = [i for i, other in enumerate(groups) if other == group]
    merged.append(jax.nn.logsumexp(logits[..., np.array(members)], axis=-1))
  return jnp.stack(merged, axis=-1)
