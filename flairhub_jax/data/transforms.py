"""Symmetries of a patch, applied to a whole example.

A square patch has eight; any other has four, since a quarter turn would change
its shape within the batch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Num


def turn(
  values: Num[np.ndarray, "... h w c"],
  *,
  flip_horizontal: bool,
  flip_vertical: bool,
  quarter_turns: int,
) -> Num[np.ndarray, "... h w c"]:
  """Flips, then rotates counter-clockwise, along the two pixel axes."""
  if flip_horizontal:
    values = np.flip(values, -2)
  if flip_vertical:
    values = np.flip(values, -3)
  return np.rot90(values, quarter_turns, axes=(-3, -2))


def augment(
  example: Mapping[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
  """Draws one symmetry and applies it to images, series and labels.

  As in the reference, each flip has probability 1/2, and rotations by 1, 2 or 3
  quarter turns have probability 1/2 in total. If any raster is not square, only
  flips are drawn; both together are the half turn.
  """
  shapes = [x.shape[-3:-1] for x in example["inputs"].values()]
  shapes += [x.shape[-2:] for x in example["labels"].values()]
  is_square = all(height == width for height, width in shapes)
  motion: dict[str, Any] = dict(
    flip_horizontal=bool(rng.random() < 0.5),
    flip_vertical=bool(rng.random() < 0.5),
    quarter_turns=(
      int(rng.integers(1, 4)) if is_square and rng.random() < 0.5 else 0
    ),
  )

  def move(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(turn(values, **motion))

  return {
    **example,
    "inputs": {name: move(x) for name, x in example["inputs"].items()},
    "labels": {
      name: move(x[..., None])[..., 0] for name, x in example["labels"].items()
    },
  }
