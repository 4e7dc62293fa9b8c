"""Figures of the modality weights of a fusion."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from flairhub_jax.figures import canvas
from flairhub_jax.schema import LabelTask

_COLOUR_MAP = "viridis"


def draw_usage(
  path: str | os.PathLike,
  usage: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]],
  modalities: Sequence[str],
  tables: Mapping[str, LabelTask],
) -> None:
  """Draws mean weights as heat maps: a column per level, a row per task.

  Args:
    path: PNG to write.
    usage: level -> task -> class -> modality -> mean weight.
    modalities: order of the columns.
    tables: label tasks by id.
  """
  tasks = list(next(iter(usage.values())))
  # Rare classes may have no pixel on coarse levels; their rows are empty.
  classes = {
    task: [
      row.name
      for row in tables[task].classes
      if any(row.name in by_task[task] for by_task in usage.values())
    ]
    for task in tasks
  }
  heights = [len(classes[task]) for task in tasks]
  figure, grid = canvas.subplots(
    len(tasks),
    len(usage),
    figsize=(2.2 + 2.3 * len(usage), 1.6 + 0.28 * sum(heights)),
    height_ratios=[max(1, height) for height in heights],
    squeeze=False,
    layout="constrained",
  )
  for column, (level, by_task) in enumerate(usage.items()):
    for axis, task in zip(grid[:, column], tasks, strict=True):
      rows = [by_task[task].get(name, {}) for name in classes[task]]
      table = np.array(
        [[row.get(m, np.nan) for m in modalities] for row in rows]
      )
      image = axis.imshow(
        table, vmin=0, vmax=1, cmap=_COLOUR_MAP, aspect="auto"
      )
      canvas.write_values(axis, table, "{:.2f}", dark_above=0.6)
      names = [] if column else classes[task]
      axis.set_yticks(range(len(names)), names, fontsize=8)
      axis.set_xticks(
        range(len(modalities)), modalities, rotation=60, ha="right", fontsize=7
      )
      axis.set_title(f"{tables[task].short_name}\n{level}", fontsize=9)
  figure.colorbar(image, ax=grid, label="mean weight", shrink=0.6)
  figure.suptitle("Weight of each modality by true class and level")
  canvas.save(figure, path)


def draw_weight_maps(
  path: str | os.PathLike,
  maps: Mapping[str, Mapping[str, Float[np.ndarray, "n h w"]]],
  modalities: Sequence[str],
) -> None:
  """Draws the weights at the finest level, one row per patch.

  Args:
    path: PNG to write.
    maps: title of a patch -> level -> weights.
    modalities: order of the weights.
  """
  figure, grid = canvas.subplots(
    len(maps),
    len(modalities),
    figsize=(2.2 * len(modalities) + 1.2, 2.3 * len(maps) + 0.4),
    squeeze=False,
    layout="constrained",
  )
  for axes, (title, levels) in zip(grid, maps.items(), strict=True):
    level = max(levels, key=lambda name: levels[name].shape[-1])
    for axis, modality, weights in zip(
      axes, modalities, levels[level], strict=True
    ):
      image = axis.imshow(weights, vmin=0, vmax=1, cmap=_COLOUR_MAP)
      axis.set_xticks([])
      axis.set_yticks([])
      axis.set_title(modality, fontsize=8)
    axes[0].set_ylabel(f"{title}\n{level}", fontsize=7)
  figure.colorbar(image, ax=grid, label="weight", shrink=0.6)
  canvas.save(figure, path)
