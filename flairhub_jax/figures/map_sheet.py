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
  north: tuple[float, float] | None = (0.0, 1.0),
) -> None:
  """Draws a map; the legend has the classes that occur, with their area (%).

  Args:
    path: PNG to write.
    classes: values that are no class are white.
    task: with names and colours of the classes.
    title: of the figure.
    pixel: height and width of a pixel, in `unit`.
    unit: of the scale bar; a bar of 1000 m or more is in km.
    north: direction of the arrow, right and up, of length 1; None: no arrow.
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
  if north is not None:
    _draw_north(axis, width, height, north)
  canvas.save(figure, path)


def _draw_north(axis, width, height, north) -> None:
  """Draws an arrow in the corner between scale bar and legend."""
  length = 0.05 * max(width, height)
  x, y = width - 1.3 * length, height + 1.5 * length
  right, up = (0.7 * length * each for each in north)
  axis.add_patch(
    shapes.FancyArrowPatch(
      (x - right, y + up),
      (x + right, y - up),
      arrowstyle="-|>",
      mutation_scale=14,
      color="black",
      clip_on=False,
    )
  )
  axis.text(
    x + 1.6 * right,
    y - 1.6 * up,
    "N",
    ha="center",
    va="center",
    fontsize=11,
  )


def _draw_scale(axis, width, height, unit) -> None:
  """Draws a scale bar of a round length, at most a quarter of the map."""
  power = 10 ** math.floor(math.log10(width / 4))
  length = max(n * power for n in (1, 2, 5) if n * power <= width / 4)
  side = max(width, height)
  top = height + 0.02 * side
  axis.add_patch(
    shapes.Rectangle(
      (0, top),
      length,
      0.012 * side,
      facecolor="black",
      clip_on=False,
    )
  )
  text = f"{length:g} {unit}"
  if unit == "m" and length >= 1000:
    text = f"{length / 1000:g} km"
  axis.text(
    length * 1.05 + 0.01 * width,
    top + 0.006 * side,
    text,
    va="center",
    fontsize=9,
  )
