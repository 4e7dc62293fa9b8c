"""Maps of arrays and open datasets in memory, by the engine of `zonal`."""

import dataclasses
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from rasterio import Affine

from flairhub_jax import configuration, terminal
from flairhub_jax.errors import InputError
from flairhub_jax.mapping import engine, examples, layout, network
from flairhub_jax.mapping.inputs import SensorInput
from flairhub_jax.mapping.layers import Layers
from flairhub_jax.mapping.layout import Layout

# An example of one window, the layout, the batch size -> compiled network.
Compile = Callable[[Mapping[str, Any], Layout, int], network.WindowNetwork]


@dataclasses.dataclass(frozen=True)
class ArrayMap:
  """A map in memory.

  Attributes:
    classes: task -> classes, 255 without data.
    probabilities: task -> probabilities, NaN without data; empty unless they
      were asked for.
    transform: from column and row to coordinates; None if unknown.
    crs: coordinate system as WKT; None if unknown.
  """

  classes: Mapping[str, UInt8[np.ndarray, "h w"]]
  probabilities: Mapping[str, Float[np.ndarray, "h w k"]]
  transform: Affine | None
  crs: str | None


def compute(
  config: Any,
  sensors: Mapping[str, SensorInput],
  compiled: Compile,
  *,
  is_placed: bool,
  window: int | None,
  overlap: int | None,
  batch_size: int | None,
  probabilities: bool,
  progress: bool | None,
) -> ArrayMap:
  """Maps the ground of the finest raster.

  Args:
    config: of the run.
    sensors: its rasters.
    compiled: returns the network for windows of a layout.
    is_placed: whether the place on the ground is known.
    window: rows and columns of a window; None: those of the run.
    overlap: pixels shared by neighbouring windows; None: a quarter.
    batch_size: windows computed at once; None: the batch size of the run.
    probabilities: whether to return probabilities.
    progress: whether to show a bar; None: in a terminal only.

  Raises:
    InputError: windows or batches of impossible sizes.
  """
  for where, size in (("window", window), ("batch_size", batch_size)):
    if size is not None and size < 1:
      raise InputError(where, "at least 1", size)
  finest = min(sensors, key=lambda n: min(sensors[n].mosaic.grid.pixel_metres))
  plan = layout.plan(
    sensors, window=window or config.inputs[finest].pixels, overlap=overlap
  )
  for note in plan.notes:
    if note.startswith("warning: "):
      warnings.warn(note.removeprefix("warning: "), stacklevel=3)
  reader = examples.Reader(config, sensors, plan)
  example = examples.stack([reader.empty_example()])
  program = compiled(example, plan, batch_size or config.data.batch_size)
  tasks = {
    task: row.num_classes
    for task, row in configuration.label_tasks(config).items()
  }
  layers = Layers(
    {task: tuple(range(k)) for task, k in tasks.items() if probabilities},
    dtype="float32",
  )
  arrays = _compute(program, reader, plan, layers, tasks, progress)
  grid = plan.output_grid()
  return ArrayMap(
    {task: arrays[f"{task}.classes"][:, 0] for task in tasks},
    {
      task: arrays[f"{task}.probabilities"].transpose(0, 2, 1)
      for task in layers.probabilities
    },
    grid.transform if is_placed else None,
    grid.crs,
  )


def _compute(program, reader, plan, layers, tasks, progress):
  """Layers [h n w] of the whole map, in the order of rows of the rasters."""
  arrays: dict[str, np.ndarray] = {}

  def write(first, rows):
    for name, values in rows.items():
      if name not in arrays:
        shape = (plan.grid.height, *values.shape[1:])
        arrays[name] = np.empty(shape, values.dtype)
      arrays[name][first : first + len(values)] = values

  bar = terminal.progress_bar(
    total=len(plan.rows) * len(plan.columns),
    desc="map",
    unit="window",
    disable=not (sys.stderr.isatty() if progress is None else progress),
  )
  with bar:
    engine.run(
      program, reader, plan, layers, tasks, write=write, on_windows=bar.update
    )
  rows, columns = (-1 if flipped else 1 for flipped in plan.is_flipped)
  return {name: x[::rows, :, ::columns] for name, x in arrays.items()}
