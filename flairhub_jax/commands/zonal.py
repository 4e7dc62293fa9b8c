"""Map a region from rasters of any grids, with a trained network."""

import argparse
import pathlib
from typing import Any

import jax

from flairhub_jax import configuration, mesh, run_directory, terminal
from flairhub_jax.commands import map_products
from flairhub_jax.errors import InputError
from flairhub_jax.inference import origin, trained
from flairhub_jax.mapping import (
  area,
  examples,
  inputs,
  layout,
  network,
  products,
  region,
)
from flairhub_jax.models import build


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "--run", required=True, metavar="RUN", help="run directory of `train`"
  )
  parser.add_argument(
    "--out", required=True, metavar="MAP.tif", help="map of classes"
  )
  _add_inputs(parser)
  _add_windows(parser)
  map_products.add_arguments(parser)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--input",
    action="append",
    required=True,
    metavar="ID=PATH",
    help="rasters of a sensor: a GeoTIFF, a VRT, a folder, a glob, or a text"
    " file that lists tiles; ID= may be left out where there is one sensor",
  )
  parser.add_argument(
    "--dates",
    action="append",
    default=[],
    metavar="ID=FILE",
    help="dates of a time series, YYYYMMDD, one per line, or JSON",
  )
  parser.add_argument(
    "--mask",
    action="append",
    default=[],
    metavar="ID=PATH",
    help="raster of the quality mask of a time series",
  )
  parser.add_argument(
    "--reproject",
    action="store_true",
    help="warp rasters of another CRS to that of the first sensor",
  )
  parser.add_argument(
    "--assume-gsd",
    action="append",
    default=[],
    metavar="ID",
    help="take the pixels of this sensor as they are, whatever their size",
  )
  parser.add_argument(
    "--skip-errors",
    action="store_true",
    help="leave the area of tiles that cannot be read without data",
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
  folder, config = run_directory.open_run(args.run)
  out = pathlib.Path(args.out)
  region.check_out(out)
  tasks = configuration.label_tasks(config)
  sensors = _open_inputs(args, config)
  try:
    return _map(args, folder, config, out, tasks, sensors)
  finally:
    inputs.close(sensors)


def _open_inputs(args, config) -> dict[str, inputs.SensorInput]:
  names = tuple(config.data.modalities)
  rasters = inputs.parse_pairs("--input", args.input, names)
  series = [n for n in names if config.schema.sensors[n].is_series]
  dates = inputs.parse_pairs("--dates", args.dates, series or names)
  masks = inputs.parse_pairs("--mask", args.mask, series or names)
  for flag, paths in (("--dates", dates), ("--mask", masks)):
    for name in paths.keys() - rasters.keys():
      raise InputError(f"{flag} {name}", f"--input {name}=PATH", "none")
  for name in args.assume_gsd:
    if name not in rasters:
      raise InputError("--assume-gsd", f"any of {', '.join(rasters)}", name)
  return inputs.open_inputs(
    config.schema,
    names,
    {
      name: inputs.SensorPaths(path, dates.get(name), masks.get(name))
      for name, path in rasters.items()
    },
    reproject=args.reproject,
    skips_errors=args.skip_errors,
  )


def _map(args, folder, config, out, tasks, sensors) -> int:
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
    layers=map_products.read_layers(args, tasks),
    out=out,
    area=polygons,
    origin=_origin(folder, config, variables, step, batch_size),
    min_areas=map_products.read_min_areas(args, plan, tasks),
  )
  identity = map_region.identity()
  wanted = map_products.read_products(args, plan.grid.crs, tasks)
  products.check(map_region, wanted, identity)
  if region.is_finished(map_region, identity):
    print(f"{out}: this map exists already")
    products.write(map_region, wanted, identity)
    return 0
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
  products.write(map_region, wanted, identity)
  for layer in map_region.layers.pixel_bytes(tuple(tasks)):
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
