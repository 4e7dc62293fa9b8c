"""One trained network on every subset of its modalities, in one pass.

Each modality is encoded once per batch; fusion and decoders then run for each
subset with the same compiled program, the others masked.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flairhub_jax import labels, mesh
from flairhub_jax.inference import patches, usage
from flairhub_jax.models.fusion import USAGE

Subset = tuple[str, ...]


def subsets_of(modalities: Sequence[str]) -> tuple[Subset, ...]:
  """All non-empty subsets, the largest first, each in the order given."""
  sizes = range(len(modalities), 0, -1)
  return tuple(
    itertools.chain.from_iterable(
      itertools.combinations(modalities, size) for size in sizes
    )
  )


def make_subset_step(
  model: Any, devices: jax.sharding.Mesh
) -> patches.PredictStep:
  """Returns `step(variables, batch)`, which scores all subsets.

  It gives what `evaluation.make_step` gives of the whole set, but {"confusion":
  {"<number of the subset>/<task>": int32 [k k]}}.
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
      patches.where_scores_lie(devices),
      usage.where_weights_lie(devices),
    ),
  )
  def decode(variables, encoded, batch, mask):
    there = jnp.ones(batch["sample_mask"].shape[0], bool)
    present = {
      m: batch["present"].get(m, there) & mask[i]
      for i, m in enumerate(modalities)
    }
    outputs, state = model.apply(
      variables, encoded, present, False, method="decode", mutable=[USAGE]
    )
    scores = patches.score_batch(outputs["logits"], batch)
    return scores, usage.read_weights(state, batch)

  def step(variables, batch):
    encoded = encode(variables, batch)
    decoded = [decode(variables, encoded, batch, mask) for mask in masks]
    whole, weights = decoded[0]
    confusion = {
      f"{number}/{task}": matrix
      for number, (scores, _) in enumerate(decoded)
      for task, matrix in scores["confusion"].items()
    }
    return {**whole, "confusion": confusion, "usage": weights}

  return step


def by_subset(
  model: Any, confusion: Mapping[str, np.ndarray]
) -> dict[Subset, dict[str, np.ndarray]]:
  """Sorts the matrices of `make_subset_step`.

  Returns:
    Subset -> task -> [k k], the whole set first.
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
  """Ids of the modalities of a network, in its order."""
  return tuple(source.modality for source in model.sources)


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Renders the subsets of `report.write_subsets` as text, mIoU and OA."""
  tasks = list(rows[0]["tasks"])
  names = [labels.TASKS[task].short_name for task in tasks]
  heading = "".join(f"{name + ' mIoU':>18}{'OA':>8}" for name in names)
  width = max(len(" + ".join(row["modalities"])) for row in rows)
  lines = [f"{'modalities':{width}}{heading}", "-" * (width + len(heading))]
  for row in rows:
    cells = "".join(
      f"{row['tasks'][t]['miou']:18.2f}{row['tasks'][t]['overall_accuracy']:8.2f}"
      for t in tasks
    )
    lines.append(f"{' + '.join(row['modalities']):{width}}{cells}")
  return "\n".join(lines)
