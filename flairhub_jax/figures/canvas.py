"""What all pictures share: drawing without a screen, writing a whole file."""

import os
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from flairhub_jax import atomic


def save(figure: Any, path: str | os.PathLike) -> None:
  """Writes a figure as PNG, whole or not at all, and forgets it."""
  with atomic.write_aside(path) as aside:
    figure.savefig(aside, dpi=110, bbox_inches="tight")
  plt.close(figure)
