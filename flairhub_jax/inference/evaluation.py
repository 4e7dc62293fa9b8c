"""Confusion matrices, maps and modality weights in one pass over a split."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flairhub_jax import mesh
from flairhub_jax.inference import partial, patches, subsets, usage
from flairhub_jax.models.fusion import MODALITY_WEIGHTS
from flairhub_jax.schema import LabelTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """Results of a network on a split.

  Attributes:
    confusion: task -> int64 [k k].
    by_subset: subset of the modalities -> task -> int64 [k k], the full set
      first; None unless requested.
    maps: index of a drawn patch -> task -> uint8 [h w].
    usage: modality weights; None if the fusion has none.
  """

  confusion: Mapping[str, np.ndarray]
  by_subset: Mapping[subsets.Subset, Mapping[str, np.ndarray]] | None
  maps: Mapping[int, Mapping[str, np.ndarray]]
  usage: usage.Usage | None


def make_step(
  model: Any, devices: jax.sharding.Mesh, tasks: Mapping[str, LabelTask]
) -> patches.PredictStep:
  """Returns the jitted `step(variables, batch)`.

  It returns the dict of `patches.score_batch` and {"usage": …} of
  `usage.read_weights`.
  """

  def step(variables, batch):
    outputs, state = model.apply(
      variables, batch, train=False, mutable=[MODALITY_WEIGHTS]
    )
    scores = patches.score_batch(outputs["logits"], batch)
    return {**scores, "usage": usage.read_weights(state, batch, tasks)}

  return jax.jit(
    step,
    out_shardings={
      **patches.score_shardings(devices),
      "usage": usage.weight_shardings(devices),
    },
    compiler_options=mesh.compiler_options(model.deterministic),
  )


def evaluate(
  runner: patches.SplitRunner,
  model: Any,
  variables: Any,
  *,
  tasks: Mapping[str, LabelTask],
  drawn: Sequence[int],
  with_subsets: bool = False,
  progress: partial.PartialSums | None = None,
) -> Evaluation:
  """Evaluates a network in one pass over a split.

  All processes must call it; the result is the same in each.

  Args:
    runner: over the split, with labels.
    model: the network.
    variables: its weights.
    tasks: its label tasks by id.
    drawn: indices of the patches whose maps and weights are returned.
    with_subsets: whether to score every subset of the modalities.
    progress: file of partial sums, from which a killed evaluation continues.
  """
  make = subsets.make_subset_step if with_subsets else make_step
  step = make(model, runner.devices, tasks)
  start, sums = progress.load() if progress else (0, {})
  selected, done = patches.SelectedPatches(drawn), start
  for batch, results in runner.run(
    variables, patches=range(start, len(runner)), step=step
  ):
    sums = _add(sums, results)
    selected.add(batch, _maps(results))
    done = min(done + runner.batch_size, len(runner))
    if progress:
      progress.save(done, sums)
  # Patches that were scored before the evaluation was killed.
  earlier = [number for number in drawn if number < start]
  if earlier:
    for batch, results in runner.run(
      variables, patches=earlier, verb="draw", step=step
    ):
      selected.add(batch, _maps(results))
  by_patch = selected.gather()
  weights = None
  if usage.has_usage(model):
    maps = {index: own["weights"] for index, own in by_patch.items()}
    weights = usage.summarise(model, sums["weights"], sums["pixels"], maps)
  confusion, rows = sums["confusion"], None
  if with_subsets:
    rows = subsets.by_subset(model, confusion)
    confusion = next(iter(rows.values()))
  return Evaluation(
    confusion=confusion,
    by_subset=rows,
    maps={index: own["classes"] for index, own in by_patch.items()},
    usage=weights,
  )


def _maps(results):
  return {
    "classes": results["classes"],
    "weights": results["usage"]["weights"],
  }


def _add(total: partial.Sums, results: Mapping[str, Any]) -> partial.Sums:
  """Adds confusion matrices in int64 and weights in float64."""

  def sum_patches(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64).sum(0), tree)

  new = {
    "confusion": jax.tree.map(
      lambda x: np.asarray(x, np.int64), results["confusion"]
    ),
    "weights": sum_patches(results["usage"]["sums"]),
    "pixels": sum_patches(results["usage"]["pixels"]),
  }
  return jax.tree.map(np.add, total, new) if total else new
