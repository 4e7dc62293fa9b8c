"""How much weight a fusion gives each modality, by class and by level."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flairhub_jax import atomic, figures, labels, mesh
from flairhub_jax.inference import patches
from flairhub_jax.models.fusion import USAGE


@dataclasses.dataclass
class Usage:
  """Weights of a network over a split.

  Attributes:
    modalities: those of the network, in the order of the weights.
    mean: level -> task -> [k n], mean weight of each modality over the pixels
      of each class; NaN for classes that do not occur.
    maps: patch number -> level -> [n h w], of some patches.
  """

  modalities: tuple[str, ...]
  mean: dict[str, dict[str, Float[np.ndarray, "k n"]]]
  maps: dict[int, dict[str, Float[np.ndarray, "n h w"]]]


def make_usage_step(model: Any) -> patches.PredictStep:
  """Returns `step(variables, batch)`, which reads the fusion's weights.

  It gives {"weights": {level: [b n h w]}, "sums": {level: {task: [k n]}},
  "counts": {level: {task: [k]}}}.
  """

  def step(variables, batch):
    _, state = model.apply(variables, batch, train=False, mutable=[USAGE])
    weights = _by_level(state[USAGE])
    sums, counts = {}, {}
    for level, values in weights.items():
      sums[level], counts[level] = {}, {}
      for task, truth in batch["labels"].items():
        number = labels.TASKS[task].num_classes
        sums[level][task], counts[level][task] = _sum_by_class(
          values, truth, batch["counted"], number
        )
    return {
      "weights": {k: jnp.moveaxis(v, 0, 1) for k, v in weights.items()},
      "sums": sums,
      "counts": counts,
    }

  options = mesh.compiler_options(model.deterministic)
  return jax.jit(step, compiler_options=options)


def _by_level(tree):
  """Names such as `level 0`, or `crops, level 0` where each task mixes."""
  found = {}
  for path, (weights,) in sorted(_leaves(tree)):
    module, level = path
    task = module.partition("_")[2]
    prefix = f"{labels.TASKS[task].short_name}, " if task else ""
    found[prefix + level.replace("_", " ")] = weights
  return found


def _leaves(tree):
  for module, levels in tree.items():
    for level, weights in levels.items():
      yield (module, level), weights


def _sum_by_class(
  weights: Float[Array, "n b h w"],
  truth: Int[Array, "b p q"],
  counted: Any,
  number: int,
):
  """Sums of weights [k n] and numbers of pixels [k], on the weights' grid."""
  height, width = weights.shape[2:]
  rows = (np.arange(height) * truth.shape[1] + truth.shape[1] // 2) // height
  columns = (np.arange(width) * truth.shape[2] + truth.shape[2] // 2) // width
  nearest = truth[:, rows][:, :, columns]
  member = jax.nn.one_hot(nearest, number) * counted[:, None, None, None]
  return jnp.einsum("bhwk,nbhw->kn", member, weights), member.sum((0, 1, 2))


def measure(
  runner: patches.SplitRunner,
  model: Any,
  variables: Any,
  shown: Sequence[int],
) -> Usage | None:
  """Means over a split, and the weights of some patches.

  Args:
    runner: over the split, with labels.
    model: the network.
    variables: its weights.
    shown: numbers of the patches whose weights are kept.

  Returns:
    None where the fusion has no weights.
  """
  if not model.strategy.has_weights or len(model.sources) == 1:
    return None
  step = make_usage_step(model)
  sums: dict[str, Any] = {}
  counts: dict[str, Any] = {}
  maps: dict[int, Any] = {}
  for batch, results in runner.run(variables, verb="weigh", step=step):
    sums = _add(sums, results["sums"])
    counts = _add(counts, results["counts"])
    for row, index in enumerate(batch["patch"].tolist()):
      if index in shown and batch["counted"][row]:
        maps[index] = {
          level: patches.local_rows(values)[row]
          for level, values in results["weights"].items()
        }
  mean = {
    level: {
      task: np.divide(
        total,
        counts[level][task][:, None],
        out=np.full(total.shape, np.nan),
        where=counts[level][task][:, None] > 0,
      )
      for task, total in by_task.items()
    }
    for level, by_task in sums.items()
  }
  names = tuple(source.modality for source in model.sources)
  return Usage(modalities=names, mean=mean, maps=maps)


def _add(total, new):
  new = jax.tree.map(lambda x: np.asarray(x, np.float64), new)
  return jax.tree.map(np.add, total, new) if total else new


def write(
  folder: pathlib.Path,
  usage: Usage,
  titles: Mapping[int, str],
  origin: Mapping[str, Any],
) -> None:
  """Writes usage.json, usage.png and usage_maps.png.

  Args:
    folder: of the results on a split.
    usage: what `measure` returned.
    titles: patch number -> id, of the patches shown.
    origin: run, step, data and split.
  """
  content = {
    level: {
      task: {
        labels.TASKS[task].classes[k].name: dict(
          zip(usage.modalities, row.tolist(), strict=True)
        )
        for k, row in enumerate(table)
        if np.isfinite(row).all()
      }
      for task, table in by_task.items()
    }
    for level, by_task in usage.mean.items()
  }
  text = json.dumps({**origin, "usage": content}, indent=1) + "\n"
  folder.mkdir(parents=True, exist_ok=True)
  atomic.write_text(folder / "usage.json", text)
  figures.draw_usage(folder / "usage.png", content, usage.modalities)
  figures.draw_weight_maps(
    folder / "usage_maps.png",
    {titles[index]: levels for index, levels in usage.maps.items()},
    usage.modalities,
  )
