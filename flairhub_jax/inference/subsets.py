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

from flairhub_jax import labels, mesh, metrics
from flairhub_jax.inference import patches

Subset = tuple[str, ...]


def subsets_of(modalities: Sequence[str]) -> tuple[Subset, ...]:
  """All non-empty subsets, the largest first, each in the order given."""
  sizes = range(len(modalities), 0, -1)
  return tuple(
    itertools.chain.from_iterable(
      itertools.combinations(modalities, size) for size in sizes
    )
  )


def make_subset_step(model: Any) -> patches.PredictStep:
  """Returns `step(variables, batch)`, which scores all subsets.

  It gives {"confusion": {"<number of the subset>/<task>": int32 [k k]}}.
  """
  modalities = _modalities(model)
  subsets = subsets_of(modalities)
  masks = [np.array([m in subset for m in modalities]) for subset in subsets]

  jit = functools.partial(
    jax.jit, compiler_options=mesh.compiler_options(model.deterministic)
  )

  @jit
  def encode(variables, batch):
    return model.apply(variables, batch, False, method="encode")

  @jit
  def decode(variables, encoded, batch, mask):
    samples = batch["counted"].shape[0]
    there = jnp.ones(samples, bool)
    present = {
      m: batch["present"].get(m, there) & mask[i]
      for i, m in enumerate(modalities)
    }
    outputs = model.apply(variables, encoded, present, False, method="decode")
    return {
      task: metrics.confusion_matrix(
        truth,
        jnp.argmax(outputs["logits"][task], -1),
        batch["counted"],
        labels.TASKS[task].num_classes,
      )
      for task, truth in batch["labels"].items()
    }

  def step(variables, batch):
    encoded = encode(variables, batch)
    confusion = {}
    for number, mask in enumerate(masks):
      for task, matrix in decode(variables, encoded, batch, mask).items():
        confusion[f"{number}/{task}"] = matrix
    return {"confusion": confusion}

  return step


def confusion_by_subset(
  runner: patches.SplitRunner,
  model: Any,
  variables: Any,
  memory: patches.PartialConfusion | None = None,
) -> dict[Subset, dict[str, np.ndarray]]:
  """Sums the confusion matrices of each subset over a split.

  Args:
    runner: over the split.
    model: the network.
    variables: its weights.
    memory: where a long evaluation is kept while it runs, to continue it.

  Returns:
    Subset -> task -> int64 [k k], the whole set first.
  """
  step = make_subset_step(model)
  flat = runner.confusion(variables, memory, step=step)
  result: dict[Subset, dict[str, np.ndarray]] = {}
  for number, subset in enumerate(subsets_of(_modalities(model))):
    prefix = f"{number}/"
    result[subset] = {
      key.removeprefix(prefix): matrix
      for key, matrix in flat.items()
      if key.startswith(prefix)
    }
  return result


def _modalities(model):
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
