"""Augmentations of a patch, applied to a whole example.

Each is a function `(example, rng, options) -> example` of NumPy arrays that
leaves its arguments as they are. `augmentation.py` has the table of them, and
checks their options.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Num

Example = Mapping[str, Any]
Options = Mapping[str, Any]

# Luma of red, green and blue, and the two axes of colour (YIQ, NTSC 1953).
_YIQ = np.array(
  [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]
)


def of_rasters(example: Example, move: Any) -> dict[str, Any]:
  """Applies `move` to every image, series and label, as [… h w c]."""
  return {
    **example,
    "inputs": {name: move(x) for name, x in example["inputs"].items()},
    "labels": {
      name: move(x[..., None])[..., 0] for name, x in example["labels"].items()
    },
  }


# ---- symmetries --------------------------------------------------------------


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


def symmetry(
  example: Example, rng: np.random.Generator, options: Options
) -> dict[str, Any]:
  """Draws one symmetry and applies it to images, series and labels.

  A square patch has eight; any other has four, since a quarter turn would
  change its shape within the batch. As in the reference, each flip has
  probability 1/2, and rotations by 1, 2 or 3 quarter turns have probability 1/2
  in total. If any raster is not square, only flips are drawn; both together are
  the half turn. There are no options.
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
  return of_rasters(
    example, lambda values: np.ascontiguousarray(turn(values, **motion))
  )


# ---- crops -------------------------------------------------------------------


def crop(
  example: Example, rng: np.random.Generator, options: Options
) -> dict[str, Any]:
  """Cuts the same ground out of images, series and labels.

  Args:
    example: rasters of one extent.
    rng: draws where.
    options: `cells`, rows and columns of the finest grid of which a cell is a
      whole number of pixels of each raster; `crop_cells`, those of the crop.
  """
  pairs = zip(options["cells"], options["crop_cells"], strict=True)
  corner = [int(rng.integers(number - part + 1)) for number, part in pairs]
  return cut(example, corner, options)


def cut(example: Example, corner: Any, options: Options) -> dict[str, Any]:
  """Cuts the crop whose first row and column of cells are `corner`."""

  def cut_raster(values: np.ndarray) -> np.ndarray:
    rows, columns = (
      slice(first * size // cells, (first + part) * size // cells)
      for first, part, cells, size in zip(
        corner,
        options["crop_cells"],
        options["cells"],
        values.shape[-3:-1],
        strict=True,
      )
    )
    return np.ascontiguousarray(values[..., rows, columns, :])

  return of_rasters(example, cut_raster)


# ---- values ------------------------------------------------------------------


def colour(
  example: Example, rng: np.random.Generator, options: Options
) -> dict[str, Any]:
  """Changes brightness, contrast, saturation and hue of some sensors.

  Each sensor has its own draw, which a patch without it makes too. All four are
  linear in the values of a pixel.

  Args:
    example: with the sensors of `options`, or some of them.
    rng: draws the four changes, uniformly.
    options: `brightness`, `contrast`, `saturation`, `hue`: largest changes;
      `sensors`: id -> positions of the bands R, G and B, () without them.
  """
  inputs = dict(example["inputs"])
  for name, colours in options["sensors"].items():
    brightness, contrast, saturation, hue = (
      float(rng.uniform(-options[change], options[change]))
      for change in ("brightness", "contrast", "saturation", "hue")
    )
    if not example["present"][name] or not inputs[name].size:
      continue
    stored = inputs[name]
    values = stored.astype(np.float32)
    mean = values.mean(axis=tuple(range(values.ndim - 1)), dtype=np.float64)
    gain = (1 + brightness) * (1 + contrast)
    shift = ((1 + brightness) * -contrast * mean).astype(np.float32)
    values *= np.float32(gain)
    values += shift
    if colours:
      matrix = colour_matrix(1 + saturation, hue).astype(np.float32)
      values[..., colours] = values[..., colours] @ matrix.T
    inputs[name] = as_stored(values, stored.dtype)
  return {**example, "inputs": inputs}


def colour_matrix(saturation: float, hue: float) -> Float[np.ndarray, "3 3"]:
  """Matrix by which red, green and blue are multiplied.

  Luma and grey stay as they are.

  Args:
    saturation: factor of the differences from grey.
    hue: angle, in turns.
  """
  angle = 2 * np.pi * hue
  c, s = saturation * np.cos(angle), saturation * np.sin(angle)
  turned = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
  return np.linalg.inv(_YIQ) @ turned @ _YIQ


def noise(
  example: Example, rng: np.random.Generator, options: Options
) -> dict[str, Any]:
  """Adds Gaussian noise, independent in each value, to some sensors.

  Args:
    example: with the sensors of `options`, or some of them.
    rng: draws the noise.
    options: `deviations`: id of a sensor -> standard deviation of the noise of
      each of its bands, in the unit of the values.
  """
  inputs = dict(example["inputs"])
  for name, deviations in options["deviations"].items():
    stored = inputs[name]
    if not example["present"][name] or not stored.size:
      continue
    drawn = rng.standard_normal(stored.shape, np.float32)
    drawn *= np.asarray(deviations, np.float32)
    drawn += stored
    inputs[name] = as_stored(drawn, stored.dtype)
  return {**example, "inputs": inputs}


def as_stored(
  values: Float[np.ndarray, "*shape"], dtype: np.dtype
) -> Num[np.ndarray, "*shape"]:
  """Rounds to a type of whole numbers and clips to its range."""
  if not np.issubdtype(dtype, np.integer):
    return values.astype(dtype)
  limits = np.iinfo(dtype)
  np.rint(values, out=values)
  np.clip(values, limits.min, limits.max, out=values)
  return values.astype(dtype)


# ---- dates -------------------------------------------------------------------


def dates(
  example: Example, rng: np.random.Generator, options: Options
) -> dict[str, Any]:
  """Drops dates of each series; at least one valid date stays.

  Args:
    example: series before they are padded.
    rng: draws which.
    options: `probability` of dropping a date.
  """
  moved = {key: dict(example[key]) for key in ("inputs", "dates", "valid")}
  for name, valid in example["valid"].items():
    stays = rng.random(len(valid)) >= options["probability"]
    lot = rng.random(len(valid))
    if valid.any() and not (stays & valid).any():
      stays[np.argmax(np.where(valid, lot, -1.0))] = True
    for values in moved.values():
      values[name] = values[name][stays]
  return {**example, **moved}
