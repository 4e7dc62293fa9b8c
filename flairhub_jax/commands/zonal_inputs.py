"""Flags of `zonal` that name rasters, or a file of flags."""

import argparse
import pathlib
from collections.abc import Callable, Sequence

from flairhub_jax import run_directory, terminal
from flairhub_jax.errors import InputError
from flairhub_jax.mapping import conversion, inputs, reference_zone, zone_file
from flairhub_jax.schema import Schema
from flairhub_jax.weights import reference_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of rasters."""
  parser.add_argument(
    "--config",
    metavar="ZONE.yaml",
    help="file of the flags below, or one of the reference's zonal detection;"
    " flags of the command line override it, paths are relative to its folder",
  )
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
  _add_conversions(parser)


def _add_conversions(parser: argparse.ArgumentParser) -> None:
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


def with_file(
  args: argparse.Namespace,
  add_all: Callable[[argparse.ArgumentParser], None],
) -> argparse.Namespace:
  """The flags, completed by the file of `--config`.

  Args:
    args: of the command line.
    add_all: declares all flags of the command.

  Raises:
    InputError: no such file, or a wrong option in it.
  """
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
    _, config = run_directory.open_run(args.run[0])
    content, notes = reference_zone.translate(content, config, where=path)
    for line in notes:
      terminal.print_line(line)
  parser = argparse.ArgumentParser()
  add_all(parser)
  return zone_file.merge(args, content, parser, where=path)


def open_inputs(
  args: argparse.Namespace, schema: Schema, names: Sequence[str]
) -> dict[str, inputs.SensorInput]:
  """Opens the rasters that the flags name.

  Args:
    args: the flags.
    schema: describes the sensors.
    names: ids of the sensors of the network.

  Raises:
    InputError: see `inputs.open_inputs`.
  """
  rasters = inputs.parse_pairs("--input", args.input, names)
  series = [n for n in names if schema.sensors[n].is_series]
  dates = inputs.parse_pairs("--dates", args.dates, series or names)
  masks = inputs.parse_pairs("--mask", args.mask, series or names)
  bands = inputs.parse_pairs("--bands", args.bands, names, value="N,N")
  scales = inputs.parse_pairs("--scale", args.scale, names, value="FACTOR")
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
    schema,
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
