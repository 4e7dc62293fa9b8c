"""Elements of all figures: axes without a display, colours, PNG files."""

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

  Unlike pyplot it is independent of the backend of the host program, and holds
  no reference to the figure.

  Args:
    rows: number of rows of axes.
    columns: number of columns of axes.
    figsize: width and height in inches.
    layout: layout engine of the figure.
    **options: of `Figure.subplots`.
  """
  figure = Figure(figsize=figsize, layout=layout)
  return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, path: str | os.PathLike) -> None:
  """Writes a figure as PNG, atomically."""
  with atomic.write_aside(path) as aside:
    figure.savefig(aside, format="png", dpi=110, bbox_inches="tight")


def colours(names: Sequence[str]) -> dict[str, Any]:
  """Returns a colour per name, which depends only on the list of names."""
  if len(names) <= 10:
    table = matplotlib.colormaps["tab10"](np.arange(10))
  elif len(names) <= 20:
    # Pairs of a dark and a light shade, for adjacent names that form pairs.
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
  """Labels columns with rotated names; options are those of `tick_params`."""
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
  """Writes the values of a heat map into its cells, except NaN.

  Args:
    axis: of the heat map.
    table: its values.
    text: format of a value, such as "{:.0f}".
    dark_above: threshold above which the text is dark.
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
