"""Which augmentations exist, and those of a configuration.

Functions are in `transforms.py`, or in files of their own.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from flairhub_jax.data import records, transforms
from flairhub_jax.errors import InputError

_SECTION = "config.data.augmentation"
_COLOURS = ("R", "G", "B")
# Of the number of cells of a crop: fractions such as 1/3 are rounded.
_TOLERANCE = 1e-6

Transform = Callable[
  [Mapping[str, Any], np.random.Generator, Mapping[str, Any]], dict[str, Any]
]
Prepare = Callable[[Any, Mapping[str, Any], records.Dataset], dict[str, Any]]


def _as_configured(config, section, dataset):
  """Options are the fields of the section."""
  return dict(section)


def _crop_options(config, section, dataset):
  """Refuses a crop that cuts pixels of a raster in two."""
  sizes = {
    name: dataset.modalities[name].shape[-3:-1]
    for name in config.data.modalities
    if name in dataset.modalities
  }
  sizes |= {
    name: dataset.tasks[name].shape[:2]
    for name in config.data.tasks
    if name in dataset.tasks
  }
  sizes["logits"] = dataset.output_size
  cells = tuple(math.gcd(*sides) for sides in zip(*sizes.values(), strict=True))
  exact = [section["fraction"] * number for number in cells]
  crop = tuple(round(number) for number in exact)
  fits = np.allclose(crop, exact, rtol=0, atol=_TOLERANCE)
  if not fits or min(crop) < 1 or crop == cells:
    listed = ", ".join(f"{n} {h} x {w}" for n, (h, w) in sizes.items())
    number = math.gcd(*cells)
    parts = f"k/{number}, k from 1 to {number - 1}"
    raise InputError(
      f"{_SECTION}.crop.fraction",
      f"{parts if number > 1 else 'no crop'}, for whole pixels of {listed}",
      section["fraction"],
    )
  return {"cells": cells, "crop_cells": crop}


def _colour_options(config, section, dataset):
  """Finds the bands R, G and B, where a sensor has all three."""
  sensors = {}
  for name in _sensors(config, "colour", section["sensors"]):
    bands = config.schema.sensors[name].bands
    has_colours = set(_COLOURS) <= set(bands)
    sensors[name] = [bands.index(b) for b in _COLOURS] if has_colours else []
  return {**section, "sensors": sensors}


def _noise_options(config, section, dataset):
  """Standard deviations of the noise in the unit of each band."""
  deviations = {}
  for name in _sensors(config, "noise", section["sensors"]):
    sensor, inputs = config.schema.sensors[name], config.inputs[name]
    read = {
      part
      for band in inputs.bands
      for part in sensor.derived_bands.get(band, (band,))
    }
    unknown = sorted(read - set(inputs.std))
    if unknown:
      raise InputError(
        f"{_SECTION}.noise.sensors",
        "sensors with a standard deviation of each band that is read",
        f"{name} without that of {', '.join(unknown)}",
      )
    deviations[name] = [
      section["deviation"] * inputs.std.get(band, 0.0) for band in sensor.bands
    ]
  return {"deviations": deviations}


def _dates_options(config, section, dataset):
  """Refuses to drop dates where there are none."""
  sensors = config.schema.sensors
  if not any(sensors[name].is_series for name in config.data.modalities):
    raise InputError(
      "config.data.augment",
      "dates with a series among config.data.modalities only",
      ", ".join(config.data.modalities),
    )
  return dict(section)


def _sensors(config: Any, kind: str, listed: Iterable[str]) -> list[str]:
  """Those listed that are in use, of which there must be one."""
  where = f"{_SECTION}.{kind}.sensors"
  for name in listed:
    if name not in config.schema.sensors:
      raise InputError(
        where, f"any of {', '.join(config.schema.sensors)}", repr(name)
      )
  used = [name for name in config.data.modalities if name in listed]
  if not used:
    raise InputError(
      where,
      f"any of {', '.join(config.data.modalities)}",
      ", ".join(listed) or "none",
    )
  return used


# Name in `config.data.augment` -> function, and what makes and checks its
# options: `(config, section of config.data.augmentation, dataset) -> options`.
AUGMENTATIONS: Mapping[str, tuple[Transform, Prepare]] = {
  "crop": (transforms.crop, _crop_options),
  "symmetry": (transforms.symmetry, _as_configured),
  "colour": (transforms.colour, _colour_options),
  "noise": (transforms.noise, _noise_options),
  "dates": (transforms.dates, _dates_options),
}


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """The augmentations of a run, one after the other, `(example, rng)`.

  Attributes:
    steps: name, function and options of each.
  """

  steps: tuple[tuple[str, Transform, Mapping[str, Any]], ...]

  def __call__(
    self, example: Mapping[str, Any], rng: np.random.Generator
  ) -> dict[str, Any]:
    """Augments an example; all draws are from `rng`."""
    for _, function, options in self.steps:
      example = function(example, rng, options)
    return dict(example)

  def resize(self, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Gives a batch, or an example, the size of those that are augmented."""
    for name, _, options in self.steps:
      if name == "crop":
        batch = transforms.cut(batch, (0, 0), options)
    return dict(batch)

  def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of what were `size` pixels of a whole patch."""
    for name, _, options in self.steps:
      if name == "crop":
        pairs = zip(size, options["crop_cells"], options["cells"], strict=True)
        rows, columns = (side * crop // cells for side, crop, cells in pairs)
        size = rows, columns
    return size


def build_augmentation(config: Any, dataset: records.Dataset) -> Augmentation:
  """Builds the augmentations of a configuration.

  Args:
    config: a configuration with the fields of `configs/base.py`.
    dataset: the data, for the sizes of rasters.

  Raises:
    InputError: an unknown name, or options that cannot work.
  """
  names = tuple(config.data.augment)
  steps = []
  for name in names:
    if name not in AUGMENTATIONS or names.count(name) > 1:
      raise InputError(
        "config.data.augment",
        f"any of {', '.join(AUGMENTATIONS)}, each once",
        repr(name) if name not in AUGMENTATIONS else f"{name!r} twice",
      )
    function, prepare = AUGMENTATIONS[name]
    section = config.data.augmentation.get(name, {})
    steps.append((name, function, prepare(config, dict(section), dataset)))
  return Augmentation(tuple(steps))
