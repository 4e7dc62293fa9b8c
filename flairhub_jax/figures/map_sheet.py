"""Figure: a map of classes with legend, scale bar and north arrow."""

import math
import os

import numpy as np
from jaxtyping import UInt8
from matplotlib import patches as shapes

from flairhub_jax.figures import canvas
from flairhub_jax.schema import LabelTask

_MAP_INCHES = 8.0  # length of the longer edge of the map


def draw_map(
  path: str | os.PathLike,
  classes: UInt8[np.ndarray, "h w"],
  task: LabelTask,
  *,
  title: str,
  pixel: tuple[float, float],
  unit: str = "m",
) -> None:
  """Draws a map; the legend has the classes that occur, with their area (%).

  Args:
    path: PNG to write.
    classes: values that are no class are white.
    task: with names and colours of the classes.
    title: of the figure.
    pixel: height and width of a pixel, in `unit`.
    unit: of the scale bar; a bar of 1000 m or more is in km.
  """
  height, width = classes.shape[0] * pixel[0], classes.shape[1] * pixel[1]
  scale = _MAP_INCHES / max(height, width)
  figure, axis = canvas.subplots(
    figsize=(max(2.0, scale * width), max(2.0, scale * height))
  )
  image = np.full((*classes.shape, 3), 255, np.uint8)
  has_class = classes < task.num_classes
  image[has_class] = task.palette[classes[has_class]]
  axis.imshow(image, interpolation="nearest", extent=(0, width, height, 0))
  axis.set_xticks([])
  axis.set_yticks([])
  axis.set_title(title, fontsize=10)
  counts = np.bincount(classes[has_class], minlength=task.num_classes)
  total = max(int(counts.sum()), 1)
  handles = [
    shapes.Patch(
      facecolor=each.colour,
      edgecolor="0.5",
      label=f"{each.name} ({100 * count / total:.1f} %)",
    )
    for each, count in zip(task.classes, counts, strict=True)
    if count
  ]
  if handles:
    canvas.add_legend(axis, handles=handles, title=task.short_name)
  _draw_scale(axis, width, height, unit)
  axis.annotate(
    "N",
    xy=(1.04, 0.14),
    xytext=(1.04, 0.02),
    xycoords="axes fraction",
    ha="center",
    fontsize=11,
    arrowprops={"arrowstyle": "-|>", "color": "black"},
    annotation_clip=False,
  )
  canvas.save(figure, path)


def _draw_scale(axis, width, height, unit) -> None:
  """Draws a scale bar of a round length, at most a quarter of the map."""
  power = 10 ** math.floor(math.log10(width / 4))
  length = max(n * power for n in (1, 2, 5) if n * power <= width / 4)
  top = 1.02 * height
  axis.add_patch(
    shapes.Rectangle(
      (0, top),
      length,
      0.012 * height,
      facecolor="black",
      clip_on=False,
    )
  )
  text = f"{length:g} {unit}"
  if unit == "m" and length >= 1000:
    text = f"{length / 1000:g} km"
  axis.text(
    length * 1.05 + 0.01 * width,
    top + 0.006 * height,
    text,
    va="center",
    fontsize=9,
  )
