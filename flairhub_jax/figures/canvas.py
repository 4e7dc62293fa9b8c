"""What all pictures share: drawing without a screen, writing a whole file."""

import os
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from jaxtyping import Float
from matplotlib import pyplot as plt

from flairhub_jax import atomic


def save(figure: Any, path: str | os.PathLike) -> None:
  """Writes a figure as PNG, whole or not at all, and forgets it."""
  with atomic.write_aside(path) as aside:
    figure.savefig(aside, dpi=110, bbox_inches="tight")
  plt.close(figure)


def colours(names: Sequence[str]) -> dict[str, Any]:
  """A colour per name, the same in every picture with these names."""
  if len(names) <= 10:
    table = plt.get_cmap("tab10").colors
  elif len(names) <= 20:
    # A dark and a light one of each hue: neighbours by name are often pairs.
    table = plt.get_cmap("tab20").colors
  else:
    table = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, len(names)))
  return dict(zip(names, map(tuple, table), strict=False))


def wrap(name: str, width: int = 34) -> str:
  """Breaks a long name after its commas, plus signs and spaces."""
  lines = textwrap.wrap(name.replace("+", "+ "), width, break_long_words=False)
  return "\n".join(lines).replace("+ ", "+")


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
