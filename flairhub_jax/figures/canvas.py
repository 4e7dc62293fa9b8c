"""Shared by all figures: drawing without a display, atomic PNG files."""

import os
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from flairhub_jax import atomic


def subplots(
  rows: int = 1,
  columns: int = 1,
  *,
  figsize: tuple[float, float],
  layout: Literal["constrained", "tight"] | None = None,
  **options: Any,
) -> tuple[Figure, Any]:
  """Returns a figure and its axes, as `pyplot.subplots` does.

  Unlike pyplot it neither needs nor changes the backend of the host program,
  and keeps no reference to the figure.

  Args:
    rows: of axes.
    columns: of axes.
    figsize: width and height in inches.
    layout: how the figure arranges its axes.
    **options: of `Figure.subplots`.
  """
  figure = Figure(figsize=figsize, layout=layout)
  return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, path: str | os.PathLike) -> None:
  """Writes a figure as PNG, atomically."""
  with atomic.write_aside(path) as aside:
    figure.savefig(aside, format="png", dpi=110, bbox_inches="tight")


def colours(names: Sequence[str]) -> dict[str, Any]:
  """A colour per name, the same in every figure with these names."""
  if len(names) <= 10:
    table = matplotlib.colormaps["tab10"](np.arange(10))
  elif len(names) <= 20:
    # A dark and a light shade of each hue: neighbouring names are often pairs.
    table = matplotlib.colormaps["tab20"](np.arange(20))
  else:
    table = matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, len(names)))
  return dict(zip(names, map(tuple, table), strict=False))


def add_legend(axis: Any, **options: Any) -> None:
  """Adds a legend to the right of the axes."""
  axis.legend(
    loc="upper left",
    bbox_to_anchor=(1.01, 1.0),
    fontsize=8,
    frameon=False,
    **options,
  )


def wrap(name: str, width: int = 34) -> str:
  """Breaks a long name after its commas, plus signs and spaces."""
  lines = textwrap.wrap(name.replace("+", "+ "), width, break_long_words=False)
  return "\n".join(lines).replace("+ ", "+")


def name_columns(axis: Any, names: Sequence[str], **options: Any) -> None:
  """Writes names below columns, slanted; options are of `tick_params`."""
  axis.set_xticks(
    range(len(names)),
    names,
    rotation=45,
    ha="right",
    rotation_mode="anchor",
    fontsize=7,
  )
  axis.tick_params(axis="x", length=0, **options)


def write_values(
  axis: Any, table: Float[np.ndarray, "r c"], text: str, *, dark_above: float
) -> None:
  """Writes the values of a heat map into its cells; NaN stays empty.

  Args:
    axis: of the heat map.
    table: its values.
    text: format of a value, such as "{:.0f}".
    dark_above: value from which the colour below is light.
  """
  for row, column in np.argwhere(np.isfinite(table)):
    value = table[row, column]
    axis.text(
      column,
      row,
      text.format(value),
      ha="center",
      va="center",
      fontsize=7,
      color="black" if value > dark_above else "white",
    )
