"""Map a region from rasters of any grids, with a trained network."""

import argparse
import pathlib

import jax

from flairhub_jax import configuration, mesh, processes, terminal
from flairhub_jax.commands import (
  ensemble,
  map_classes,
  map_products,
  zonal_inputs,
)
from flairhub_jax.errors import InputError, RunError
from flairhub_jax.mapping import (
  area,
  augmentation,
  bands,
  block_cache,
  input_check,
  inputs,
  layout,
  products,
  region,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "--run",
    action="append",
    metavar="RUN",
    help="run directory of `train`; several make an ensemble, whose"
    " probabilities are averaged",
  )
  parser.add_argument("--out", metavar="MAP.tif", help="map of classes")
  zonal_inputs.add_arguments(parser)
  _add_windows(parser)
  _add_averages(parser)
  map_products.add_arguments(parser)
  parser.add_argument(
    "--job",
    metavar="I/N",
    help="compute part I of N parts of the map; a call without --job computes"
    " what is missing and writes the map",
  )
  processes.add_arguments(parser)


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


def _add_averages(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--tta",
    action="store_true",
    help="average the probabilities of the eight symmetries of each window",
  )
  parser.add_argument(
    "--date-subsets",
    type=int,
    default=1,
    metavar="N",
    help="average the probabilities of N subsets of the dates of each series,"
    " every N-th date",
  )
  parser.add_argument(
    "--bias",
    action="append",
    default=[],
    metavar="TASK:CLASS=VALUE",
    help="add a number to the logits of a class; may come again",
  )
  parser.add_argument(
    "--merge",
    action="append",
    default=[],
    metavar="TASK=FILE.json",
    help='map merged classes: {"new": ["class", …], …}, every class once',
  )


def run(args: argparse.Namespace) -> int:
  """Maps a region, or resumes a killed command."""
  processes.initialize_distributed(args)
  mesh.tune_cpu_process()
  args = zonal_inputs.with_file(args, add_arguments)
  for flag in ("run", "out"):
    if getattr(args, flag) is None:
      raise InputError(f"--{flag}", "a path, here or in --config", "none")
  runs = ensemble.open_runs(args.run)
  out = pathlib.Path(args.out)
  region.check_out(out)
  job = bands.parse_job(args.job) if args.job else None
  classes = map_classes.parse(
    configuration.label_tasks(runs[0].config), args.bias, args.merge
  )
  schema, names = ensemble.sensors(runs)
  sensors = zonal_inputs.open_inputs(args, schema, names)
  try:
    return _map(args, runs, out, job, classes, sensors)
  except OSError as error:
    if error.filename is not None:
      raise
    # The system names no file where a write fails on a full disk.
    line = f"{out}: cannot be written: {error.strerror or error}"
    raise RunError(line) from error
  finally:
    inputs.close(sensors)


def _map(args, runs, out, job, classes, sensors) -> int:
  plan, polygons = _plan(args, runs, sensors)
  batch_size = args.batch or runs[0].config.data.batch_size
  forms = augmentation.Augmentation(args.tta, args.date_subsets)
  members = ensemble.load(
    runs,
    sensors,
    plan,
    tasks=classes.of_network,
    bias=classes.bias,
    augmentation=forms,
  )
  own = ensemble.join_contracts(runs)
  map_region = region.Region(
    inputs=sensors,
    layout=plan,
    tasks=classes.of_map,
    layers=map_products.read_layers(args, classes.of_map),
    out=out,
    area=polygons,
    origin={
      **ensemble.join_origins(members),
      **classes.origin(),
      **forms.origin(),
      "batch_size": batch_size,
    },
    contract=own,
    min_areas=map_products.read_min_areas(args, plan, classes.of_map),
  )
  identity = map_region.identity()
  wanted = map_products.read_products(args, plan.grid.crs, classes.of_map)
  products.check(map_region, wanted, identity)
  if region.is_finished(map_region, identity):
    if processes.is_first():
      print(f"{out}: this map exists already")
  else:
    if processes.is_first():
      _warn(own, sensors, plan)
    with block_cache.bounded(sensors, plan):
      _write(map_region, identity, members, forms, classes.groups, job)
    for each in sensors.values():
      for path in each.mosaic.unreadable:
        terminal.print_line(f"warning: {path}: left out, cannot be read")
    if job is not None:
      if processes.is_first():
        print(f"job {job} is finished; a call without --job writes the map")
      return 0
  with block_cache.bounded(sensors, plan):
    processes.main_process_first(lambda: _finish(map_region, wanted, identity))
  return 0


def _finish(map_region, wanted, identity) -> None:
  """Writes what is made of the finished files, and lists these."""
  if not processes.is_first():
    return
  products.write(map_region, wanted, identity)
  for layer in map_region.layers.pixel_bytes(tuple(map_region.tasks)):
    print(map_region.file(layer))


def _warn(own, sensors, plan) -> None:
  """Prints what is unlikely about the rasters, before the first window."""
  for line in (
    *input_check.check_values(own, sensors),
    *input_check.check_size(own, sensors, plan),
  ):
    terminal.print_line(line)
  for name in own.sensors:
    if name not in sensors:
      terminal.print_line(f"warning: {name}: no raster; absent everywhere")


def _write(map_region, identity, members, forms, groups, job) -> None:
  """Computes the bands of a job and process; the first writes a whole map."""
  number, count = jax.process_index(), jax.process_count()
  own = job if count == 1 else (job or bands.Job(1, 1)).split(number, count)
  reader = ensemble.join_readers(members)

  def compile_networks():
    return ensemble.compile_networks(
      members,
      map_region.layout,
      batch_size=map_region.origin["batch_size"],
      augmentation=forms,
      groups=groups,
    )

  def write(part):
    region.write(map_region, compile_networks, reader, identity, part)

  write(own)
  processes.any_of(False)  # all have come here
  if own is not None and job is None:
    # The others wait, and end with it if it fails.
    processes.main_process_first(lambda: processes.is_first() and write(None))


def _plan(args, runs, sensors) -> tuple[layout.Layout, area.Area | None]:
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
    window=args.window or _window(runs, sensors),
    overlap=args.overlap,
    margin=args.margin,
    resolution=args.resolution,
    bounds=bounds,
    native_gsd=args.assume_gsd,
  )
  return plan, polygons


def _window(runs, sensors) -> int:
  """Pixels of the finest sensor in a patch of the first run that has it."""
  finest = min(sensors, key=lambda n: min(sensors[n].mosaic.grid.pixel_metres))
  configs = (run.config for run in runs)
  config = next(c for c in configs if finest in c.data.modalities)
  return config.inputs[finest].pixels
