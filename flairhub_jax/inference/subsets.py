"""Evaluation of a network with every subset of its modalities, in one pass.

Each modality is encoded once per batch; fusion and decoders run once per
subset, with the other modalities masked out, in one compiled program.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flairhub_jax import mesh, text_table
from flairhub_jax.inference import patches, usage
from flairhub_jax.models.fusion import MODALITY_WEIGHTS
from flairhub_jax.schema import LabelTask

Subset = tuple[str, ...]


def subsets_of(modalities: Sequence[str]) -> tuple[Subset, ...]:
  """All non-empty subsets, largest first, each in the order of `modalities`."""
  sizes = range(len(modalities), 0, -1)
  return tuple(
    itertools.chain.from_iterable(
      itertools.combinations(modalities, size) for size in sizes
    )
  )


def make_subset_step(
  model: Any, devices: jax.sharding.Mesh, tasks: Mapping[str, LabelTask]
) -> patches.PredictStep:
  """Returns `step(variables, batch)`, which scores all subsets.

  Its results are those of `evaluation.make_step` for the full set, except
  {"confusion": {"<subset index>/<task>": int32 [k k]}}.
  """
  modalities = modalities_of(model)
  subsets = subsets_of(modalities)
  masks = [np.array([m in subset for m in modalities]) for subset in subsets]

  jit = functools.partial(
    jax.jit, compiler_options=mesh.compiler_options(model.deterministic)
  )

  @jit
  def encode(variables, batch):
    return model.apply(variables, batch, False, method="encode")

  @functools.partial(
    jit,
    out_shardings=(
      patches.score_shardings(devices),
      usage.weight_shardings(devices),
    ),
  )
  def decode(variables, encoded, batch, mask):
    everywhere = jnp.ones(batch["sample_mask"].shape[0], bool)
    present = {
      m: batch["present"].get(m, everywhere) & mask[i]
      for i, m in enumerate(modalities)
    }
    outputs, state = model.apply(
      variables,
      encoded,
      present,
      False,
      method="decode",
      mutable=[MODALITY_WEIGHTS],
    )
    scores = patches.score_batch(outputs["logits"], batch)
    return scores, usage.read_weights(state, batch, tasks)

  def step(variables, batch):
    encoded = encode(variables, batch)
    decoded = [decode(variables, encoded, batch, mask) for mask in masks]
    full_set, weights = decoded[0]
    confusion = {
      f"{number}/{task}": matrix
      for number, (scores, _) in enumerate(decoded)
      for task, matrix in scores["confusion"].items()
    }
    return {**full_set, "confusion": confusion, "usage": weights}

  return step


def by_subset(
  model: Any, confusion: Mapping[str, np.ndarray]
) -> dict[Subset, dict[str, np.ndarray]]:
  """Groups the matrices of `make_subset_step`.

  Returns:
    Subset -> task -> [k k], the full set first.
  """
  result: dict[Subset, dict[str, np.ndarray]] = {}
  for number, subset in enumerate(subsets_of(modalities_of(model))):
    prefix = f"{number}/"
    result[subset] = {
      key.removeprefix(prefix): matrix
      for key, matrix in confusion.items()
      if key.startswith(prefix)
    }
  return result


def modalities_of(model: Any) -> tuple[str, ...]:
  """Returns the ids of the modalities of a network, in order."""
  return tuple(spec.modality for spec in model.inputs)


def format_table(
  rows: Sequence[Mapping[str, Any]], tasks: Mapping[str, LabelTask]
) -> str:
  """Renders the subsets of `report.write_subsets` as text, mIoU and OA."""
  headers = ["modalities"]
  for task in tasks.values():
    headers += [f"{task.short_name} mIoU", "OA"]
  lines = [
    [
      " + ".join(row["modalities"]),
      *(
        f"{row['tasks'][task][score]:.2f}"
        for task in tasks
        for score in ("miou", "overall_accuracy")
      ),
    ]
    for row in rows
  ]
  return text_table.format_table(headers, lines)
