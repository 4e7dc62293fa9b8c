"""Modality weights of a fusion, by class and level."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from flairhub_jax import atomic, figures, mesh
from flairhub_jax.array_type import Array
from flairhub_jax.models.fusion import MODALITY_WEIGHTS
from flairhub_jax.schema import LabelTask


@dataclasses.dataclass
class Usage:
  """Modality weights of a network over a split.

  Attributes:
    modalities: of the network, in the order of the weights.
    mean: level -> task -> [k n], mean weight of each modality over the pixels
      of each class; NaN for classes that do not occur.
    maps: index of a drawn patch -> level -> [n h w].
  """

  modalities: tuple[str, ...]
  mean: dict[str, dict[str, Float[np.ndarray, "k n"]]]
  maps: dict[int, dict[str, Float[np.ndarray, "n h w"]]]


def has_usage(model: Any) -> bool:
  """Whether the fusion of a network weighs its modalities."""
  return model.strategy.has_modality_weights and len(model.inputs) > 1


def read_weights(
  state: Any, batch: Any, tasks: Mapping[str, LabelTask]
) -> dict[str, Any]:
  """Returns modality weights and their sums; for use in jitted functions.

  Args:
    state: the mutable collections returned by `apply`, with
      `fusion.MODALITY_WEIGHTS`.
    batch: with `labels` and `sample_mask`.
    tasks: label tasks of the network by id.

  Returns:
    {"weights": {level: float32 [b n h w]}, "sums": {level: {task: [b k n]}},
    "pixels": {level: {task: [b k]}}}.
  """
  weights = _by_level(state.get(MODALITY_WEIGHTS, {}), tasks)
  sums: dict[str, Any] = {level: {} for level in weights}
  pixels: dict[str, Any] = {level: {} for level in weights}
  for level, values in weights.items():
    for task, truth in batch["labels"].items():
      number = tasks[task].num_classes
      sums[level][task], pixels[level][task] = _sum_by_class(
        values, truth, batch["sample_mask"], number
      )
  return {
    "weights": {k: jnp.moveaxis(v, 0, 1) for k, v in weights.items()},
    "sums": sums,
    "pixels": pixels,
  }


def weight_shardings(devices: jax.sharding.Mesh) -> dict[str, Any]:
  """Shardings of the results of `read_weights`."""
  return {
    "weights": mesh.split_batch(devices),
    "sums": mesh.replicated(devices),
    "pixels": mesh.replicated(devices),
  }


def _by_level(tree, tasks):
  """By level: `level 0`, or `crops, level 0` if each task has a mixture."""
  result = {}
  for path, (weights,) in sorted(_leaves(tree)):
    module, level = path
    task = module.partition("_")[2]
    prefix = f"{tasks[task].short_name}, " if task else ""
    result[prefix + level.replace("_", " ")] = weights
  return result


def _leaves(tree):
  for module, levels in tree.items():
    for level, weights in levels.items():
      yield (module, level), weights


def _sum_by_class(
  weights: Float[Array, "n b h w"],
  truth: Integer[Array, "b p q"],
  sample_mask: Any,
  number: int,
):
  """Sums weights [b k n] and counts pixels [b k] by class, on their own grid.

  Patches are summed separately, so that the sum over patches depends neither on
  batches nor on devices.
  """
  height, width = weights.shape[2:]
  rows = (np.arange(height) * truth.shape[1] + truth.shape[1] // 2) // height
  columns = (np.arange(width) * truth.shape[2] + truth.shape[2] // 2) // width
  nearest = truth[:, rows][:, :, columns]
  member = jnp.where(
    sample_mask[:, None, None, None], jax.nn.one_hot(nearest, number), 0.0
  )
  return jnp.einsum("bhwk,nbhw->bkn", member, weights), member.sum((1, 2))


def summarise(
  model: Any, sums: Any, pixels: Any, maps: Mapping[int, Any]
) -> Usage:
  """Computes the means over a split.

  Args:
    model: the network.
    sums: of weights, level -> task -> float64 [k n].
    pixels: level -> task -> float64 [k].
    maps: index of a patch -> level -> [n h w], of the drawn patches.
  """
  mean = {
    level: {
      task: np.divide(
        total,
        pixels[level][task][:, None],
        out=np.full(total.shape, np.nan),
        where=pixels[level][task][:, None] > 0,
      )
      for task, total in by_task.items()
    }
    for level, by_task in sums.items()
  }
  names = tuple(spec.modality for spec in model.inputs)
  return Usage(modalities=names, mean=mean, maps=dict(maps))


def write(
  folder: pathlib.Path,
  usage: Usage,
  titles: Mapping[int, str],
  origin: Mapping[str, Any],
  tasks: Mapping[str, LabelTask],
) -> list[pathlib.Path]:
  """Writes usage.json, usage.png and usage_maps.png; returns their paths.

  Args:
    folder: of the results on a split.
    usage: from `summarise`.
    titles: index of a drawn patch -> id.
    origin: from `origin.describe`.
    tasks: label tasks of the network by id.
  """
  content = {
    level: {
      task: {
        tasks[task].classes[k].name: dict(
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
  figures.draw_usage(folder / "usage.png", content, usage.modalities, tasks)
  figures.draw_weight_maps(
    folder / "usage_maps.png",
    {titles[index]: levels for index, levels in usage.maps.items()},
    usage.modalities,
  )
  return [
    folder / name for name in ("usage.json", "usage.png", "usage_maps.png")
  ]
