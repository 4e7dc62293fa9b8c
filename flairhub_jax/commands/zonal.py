"""Map a region from rasters of any grids, with a trained network."""

import argparse
import pathlib
from typing import Any

import jax

from flairhub_jax import (
  configuration,
  contract,
  mesh,
  run_directory,
  run_schema,
  terminal,
)
from flairhub_jax.commands import zonal_inputs
from flairhub_jax.errors import InputError, RunError
from flairhub_jax.inference import origin, trained
from flairhub_jax.mapping import (
  area,
  engine,
  examples,
  input_check,
  inputs,
  layout,
  network,
  region,
)
from flairhub_jax.models import build


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument("--run", metavar="RUN", help="run directory of `train`")
  parser.add_argument("--out", metavar="MAP.tif", help="map of classes")
  zonal_inputs.add_arguments(parser)
  _add_windows(parser)
  parser.add_argument(
    "--probabilities",
    nargs="+",
    default=[],
    metavar="CLASS",
    help="also write the probabilities of these classes, or of all",
  )
  parser.add_argument(
    "--confidence",
    action="store_true",
    help="also write the largest probability of each pixel",
  )


def _add_windows(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--resolution",
    type=float,
    metavar="METRES",
    help="pixels of the map; default: those of the finest raster",
  )
  parser.add_argument(
    "--bounds",
    nargs=4,
    type=float,
    metavar=("LEFT", "BOTTOM", "RIGHT", "TOP"),
    help="part of the ground to map, in the CRS of the map",
  )
  parser.add_argument(
    "--aoi", metavar="FILE", help="vector file of polygons to map"
  )
  parser.add_argument(
    "--window",
    type=int,
    metavar="N",
    help="rows and columns of a window; default: those of the run",
  )
  blending = parser.add_mutually_exclusive_group()
  blending.add_argument(
    "--overlap",
    type=int,
    metavar="N",
    help="pixels shared by neighbouring windows; default: a quarter",
  )
  blending.add_argument(
    "--margin",
    type=int,
    metavar="N",
    help="keep the centres of windows only, without blending, as the reference",
  )
  parser.add_argument(
    "--batch",
    type=int,
    metavar="N",
    help="windows computed at once; default: the batch size of the run",
  )


def run(args: argparse.Namespace) -> int:
  """Maps a region, or resumes a killed command."""
  mesh.tune_cpu_process()
  args = zonal_inputs.with_file(args, add_arguments)
  for flag in ("run", "out"):
    if getattr(args, flag) is None:
      raise InputError(f"--{flag}", "a path, here or in --config", "none")
  folder, config = run_directory.open_run(args.run)
  config = run_schema.as_trained(config)
  out = pathlib.Path(args.out)
  region.check_out(out)
  tasks = configuration.label_tasks(config)
  sensors = zonal_inputs.open_inputs(
    args, config.schema, tuple(config.data.modalities)
  )
  try:
    return _map(args, folder, config, out, tasks, sensors)
  except OSError as error:
    if error.filename is not None:
      raise
    # The system names no file where a write fails on a full disk.
    line = f"{out}: cannot be written: {error.strerror or error}"
    raise RunError(line) from error
  finally:
    inputs.close(sensors)


def _map(args, folder, config, out, tasks, sensors) -> int:
  own = contract.build(config, contract.training_data(config))
  plan, polygons = _plan(args, config, sensors)
  reader = examples.Reader(config, sensors, plan)
  model = build.build_segmenter(config, output_size=plan.logits)
  example = examples.stack([reader.empty_example()])
  shape = build.variables_shape(model, example)
  variables, step = trained.restore(args.run, shape)
  batch_size = args.batch or config.data.batch_size
  map_region = region.Region(
    inputs=sensors,
    layout=plan,
    tasks=tasks,
    layers=engine.Layers(
      region.class_indices(tasks, args.probabilities), args.confidence
    ),
    out=out,
    area=polygons,
    origin=_origin(folder, config, variables, step, batch_size),
    contract=own,
  )
  identity = map_region.identity()
  if region.is_finished(map_region, identity):
    print(f"{out}: this map exists already")
    return 0
  for line in (
    *input_check.check_values(own, sensors),
    *input_check.check_size(own, sensors, plan),
  ):
    terminal.print_line(line)
  program = network.WindowNetwork(
    model, variables, example, plan, batch_size=batch_size
  )
  for name in config.data.modalities:
    if name not in sensors:
      terminal.print_line(f"warning: {name}: no raster; absent everywhere")
  for line in region.describe(map_region, program, reader):
    terminal.print_line(line)
  region.write(map_region, program, reader, identity)
  for each in sensors.values():
    for path in each.mosaic.unreadable:
      terminal.print_line(f"warning: {path}: left out, cannot be read")
  for layer in map_region.layers.bands(tuple(tasks)):
    print(map_region.file(layer))
  return 0


def _plan(args, config, sensors) -> tuple[layout.Layout, area.Area | None]:
  crs = next(iter(sensors.values())).mosaic.grid.crs
  polygons = area.Area(args.aoi, crs) if args.aoi else None
  bounds = (tuple(args.bounds), "--bounds") if args.bounds else None
  if bounds and not (
    args.bounds[0] < args.bounds[2] and args.bounds[1] < args.bounds[3]
  ):
    raise InputError("--bounds", "LEFT < RIGHT and BOTTOM < TOP", args.bounds)
  if polygons and not bounds:
    bounds = polygons.bounds, args.aoi
  for flag, value, least in (
    ("--window", args.window, 1),
    ("--batch", args.batch, 1),
  ):
    if value is not None and value < least:
      raise InputError(flag, f"at least {least}", value)
  plan = layout.plan(
    sensors,
    window=args.window or _window(config, sensors),
    overlap=args.overlap,
    margin=args.margin,
    resolution=args.resolution,
    bounds=bounds,
    native_gsd=args.assume_gsd,
  )
  return plan, polygons


def _window(config, sensors) -> int:
  """Pixels of the finest sensor in a patch of the run."""
  finest = min(sensors, key=lambda n: min(sensors[n].mosaic.grid.pixel_metres))
  return config.inputs[finest].pixels


def _origin(folder, config, variables, step, batch_size) -> dict[str, Any]:
  return {
    "run": folder.path.name,
    "step": step,
    "checkpoint": folder.checkpoint_digest(step),
    "weights": origin.digest(jax.device_get(variables)),
    "config": run_directory.config_digest(config),
    "batch_size": batch_size,
  }
