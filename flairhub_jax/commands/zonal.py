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
  terminal,
)
from flairhub_jax.errors import InputError
from flairhub_jax.inference import origin, trained
from flairhub_jax.mapping import (
  area,
  conversion,
  engine,
  examples,
  input_check,
  inputs,
  layout,
  network,
  reference_zone,
  region,
  zone_file,
)
from flairhub_jax.models import build
from flairhub_jax.weights import reference_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "--config",
    metavar="ZONE.yaml",
    help="file of the flags below, or one of the reference's zonal detection;"
    " flags of the command line count, paths are relative to its folder",
  )
  parser.add_argument("--run", metavar="RUN", help="run directory of `train`")
  parser.add_argument("--out", metavar="MAP.tif", help="map of classes")
  _add_inputs(parser)
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


def _add_inputs(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--input",
    action="append",
    default=[],
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
    "--bands",
    action="append",
    default=[],
    metavar="[ID=]N,N,…",
    help="bands of the rasters to take, from 1, in the order of the network's"
    " sensor (see `contract`); of a time series, within each date",
  )
  parser.add_argument(
    "--scale",
    action="append",
    default=[],
    metavar="[ID=]FACTOR[,OFFSET]",
    help="multiply the values of the rasters, then add the offset: 10000 makes"
    " reflectance of 0-1 that of Sentinel-2",
  )
  parser.add_argument(
    "--allow-remote",
    action="store_true",
    help="also read addresses (https://, s3://, /vsicurl/, …) of rasters, lists"
    " and VRTs",
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
  args = _with_file(args)
  for flag in ("run", "out"):
    if getattr(args, flag) is None:
      raise InputError(f"--{flag}", "a path, here or in --config", "none")
  folder, config = run_directory.open_run(args.run)
  out = pathlib.Path(args.out)
  region.check_out(out)
  tasks = configuration.label_tasks(config)
  sensors = _open_inputs(args, config)
  try:
    return _map(args, folder, config, out, tasks, sensors)
  finally:
    inputs.close(sensors)


def _with_file(args: argparse.Namespace) -> argparse.Namespace:
  """The flags, completed by a file of options."""
  if args.config is None:
    return args
  path = pathlib.Path(args.config)
  if not path.is_file():
    raise InputError("--config", "a YAML file", repr(args.config))
  content = reference_yaml.read_documents(path)
  if reference_zone.is_reference(content):
    if args.run is None:
      raise InputError(
        f"{path}: model_weights",
        "--run RUN beside it, as `flairhub import-weights` writes",
        "none",
      )
    _, config = run_directory.open_run(args.run)
    content, notes = reference_zone.translate(content, config, where=path)
    for line in notes:
      terminal.print_line(line)
  parser = argparse.ArgumentParser()
  add_arguments(parser)
  return zone_file.merge(args, content, parser, where=path)


def _open_inputs(args, config) -> dict[str, inputs.SensorInput]:
  names = tuple(config.data.modalities)
  rasters = inputs.parse_pairs("--input", args.input, names)
  series = [n for n in names if config.schema.sensors[n].is_series]
  dates = inputs.parse_pairs("--dates", args.dates, series or names)
  masks = inputs.parse_pairs("--mask", args.mask, series or names)
  bands = inputs.parse_pairs("--bands", args.bands, names)
  scales = inputs.parse_pairs("--scale", args.scale, names)
  for flag, given in (
    ("--dates", dates),
    ("--mask", masks),
    ("--bands", bands),
    ("--scale", scales),
  ):
    for name in given.keys() - rasters.keys():
      raise InputError(f"{flag} {name}", f"--input {name}=PATH", "none")
  for name in args.assume_gsd:
    if name not in rasters:
      raise InputError("--assume-gsd", f"any of {', '.join(rasters)}", name)
  return inputs.open_inputs(
    config.schema,
    names,
    {
      name: inputs.SensorPaths(
        path,
        dates.get(name),
        masks.get(name),
        conversion.parse_bands(bands[name], where=f"--bands {name}")
        if name in bands
        else None,
        conversion.parse_scale(scales[name], where=f"--scale {name}")
        if name in scales
        else None,
      )
      for name, path in rasters.items()
    },
    reproject=args.reproject,
    skips_errors=args.skip_errors,
    allow_remote=args.allow_remote,
  )


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
    *input_check.check_size(own, plan),
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
