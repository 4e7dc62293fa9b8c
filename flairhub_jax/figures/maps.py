"""Figures of class maps in official colours, and of confusion matrices."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num, UInt8
from matplotlib import patches as shapes
from matplotlib import ticker

from flairhub_jax.figures import canvas
from flairhub_jax.schema import LabelTask

_SENTINEL2 = ("b04", "b03", "b02")  # red, green, blue


def composite(
  values: Num[np.ndarray, "h w c"], bands: Sequence[str]
) -> UInt8[np.ndarray, "h w 3"]:
  """Renders bands with a linear stretch from the 2nd to the 98th percentile.

  Red, green and blue if the sensor has these bands, else the first in grey.
  """
  names = [band.lower() for band in bands]
  for triple in (("r", "g", "b"), ("red", "green", "blue"), _SENTINEL2):
    if set(triple) <= set(names):
      chosen = [names.index(band) for band in triple]
      break
  else:
    chosen = [0, 0, 0]
  image = values[..., chosen].astype(np.float64)
  low, high = np.nanpercentile(image, (2, 98))
  scaled = np.nan_to_num((image - low) / max(high - low, 1e-9))
  return (255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def _colour(task: LabelTask, classes: np.ndarray) -> np.ndarray:
  """Returns the colours of classes [h w]; pixels without a class are white."""
  palette = np.concatenate([task.palette, np.full((1, 3), 255, np.uint8)])
  return palette[np.minimum(classes, task.num_classes)]


def draw_patches(
  path: str | os.PathLike,
  rows: Sequence[Mapping[str, Any]],
  tasks: Mapping[str, LabelTask],
) -> None:
  """Draws input | truth | prediction, one row per patch, with a legend.

  Args:
    path: PNG to write.
    rows: {"title", "input": uint8 [h w 3], "truth": {task: [h w]},
      "prediction": {task: [h w]}}; without labels "truth" is empty.
    tasks: label tasks by id, two columns each (one without truth).
  """
  columns = ["input"]
  for task, table in tasks.items():
    name = table.short_name
    if task in rows[0]["truth"]:
      columns.append(f"{name}: truth")
    columns.append(f"{name}: prediction")
  figure, axes = canvas.subplots(
    len(rows),
    len(columns),
    figsize=(2.4 * len(columns), 2.4 * len(rows)),
    squeeze=False,
  )
  for row, cells in zip(rows, axes, strict=True):
    images = [row["input"]]
    for task, table in tasks.items():
      if task in row["truth"]:
        images.append(_colour(table, row["truth"][task]))
      images.append(_colour(table, row["prediction"][task]))
    for axis, image in zip(cells, images, strict=True):
      axis.imshow(image, interpolation="nearest")
      axis.set_xticks([])
      axis.set_yticks([])
    cells[0].set_ylabel(row["title"], fontsize=7)
  for axis, title in zip(axes[0], columns, strict=True):
    axis.set_title(title, fontsize=9)
  figure.subplots_adjust(wspace=0.04, hspace=0.04)
  _draw_legends(figure, rows, tasks)
  canvas.save(figure, path)


def _draw_legends(
  figure: Any,
  rows: Sequence[Mapping[str, Any]],
  tasks: Mapping[str, LabelTask],
) -> None:
  """Draws a legend per task, of the classes in the maps."""
  for number, (task, table) in enumerate(tasks.items()):
    shown = set()
    for row in rows:
      for kind in ("truth", "prediction"):
        shown |= set(np.unique(row[kind].get(task, [])).tolist())
    handles = [
      shapes.Patch(facecolor=c.colour, edgecolor="0.5", label=c.name)
      for value, c in enumerate(table.classes)
      if value in shown
    ]
    figure.legend(
      handles=handles,
      title=table.short_name,
      loc="lower left" if number % 2 else "upper left",
      # Two legends per column; further tasks have columns to the right.
      bbox_to_anchor=(
        0.91 + 0.3 * (number // 2),
        0.10 if number % 2 else 0.89,
      ),
      fontsize=7,
      title_fontsize=8,
      frameon=False,
    )


def draw_confusion(
  path: str | os.PathLike,
  confusion: Int[np.ndarray, "k k"],
  task: LabelTask,
  scored: np.ndarray,
) -> None:
  """Draws the confusion matrix, normalised by true class, in percent.

  Unscored classes are excluded, as in the scores; the row of a class that does
  not occur is empty.
  """
  classes = np.flatnonzero(scored)
  reduced = confusion[np.ix_(classes, classes)].astype(np.float64)
  support = reduced.sum(1, keepdims=True)
  percent = np.divide(
    100 * reduced, support, out=np.full_like(reduced, np.nan), where=support > 0
  )
  names = [task.classes[value].name for value in classes]
  size = 1.8 + 0.36 * len(classes)
  figure, axis = canvas.subplots(figsize=(size + 0.8, size))
  image = axis.imshow(percent, cmap="viridis", vmin=0, vmax=100)
  axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
  axis.set_yticks(range(len(names)), names, fontsize=7)
  axis.set_xlabel("predicted")
  axis.set_ylabel("true")
  axis.set_title(f"{task.short_name}: % of each true class")
  _annotate(axis, percent)
  bar = figure.colorbar(image, ax=axis, fraction=0.04, pad=0.02)
  bar.ax.yaxis.set_major_formatter(ticker.PercentFormatter(decimals=0))
  canvas.save(figure, path)


def _annotate(axis: Any, percent: Float[np.ndarray, "k k"]) -> None:
  for row, column in np.argwhere(np.nan_to_num(percent) >= 0.5):
    value = percent[row, column]
    axis.text(
      column,
      row,
      f"{value:.0f}",
      ha="center",
      va="center",
      fontsize=6,
      color="black" if value > 60 else "white",
    )
