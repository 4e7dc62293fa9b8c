"""Write a data set in the published layout."""

import argparse
import os
import pathlib

import numpy as np

from flairhub_jax import text_table
from flairhub_jax.commands import convert
from flairhub_jax.data import geotiff, simulate, split_csv
from flairhub_jax.labels import TASKS
from flairhub_jax.modalities import MODALITIES

_LAND_COVER = "AERIAL_LABEL-COSIA"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "--out",
    required=True,
    metavar="DIR",
    help="output folder; an interrupted simulation is continued",
  )
  parser.add_argument(
    "--patches", type=int, default=250, help="over all splits; default: 250"
  )
  parser.add_argument(
    "--pixels",
    type=int,
    default=512,
    help="size of an aerial patch; default: 512, the published size",
  )
  parser.add_argument("--seed", type=int, default=0, help="default: 0")
  parser.add_argument(
    "--modalities",
    nargs="+",
    metavar="ID",
    help=f"default: all of {', '.join(MODALITIES)}",
  )
  parser.add_argument(
    "--workers", type=int, help="processes; default: number of cores"
  )


def run(args: argparse.Namespace) -> int:
  """Simulates a data set and prints its splits and class fractions."""
  modalities = args.modalities and [
    name for words in args.modalities for name in words.split(",") if name
  ]
  simulate.simulate(
    args.out,
    num_patches=args.patches,
    pixels=args.pixels,
    modalities=modalities,
    seed=args.seed,
    num_workers=args.workers,
  )
  print(summarize(args.out))
  return 0


def summarize(out: str | os.PathLike) -> str:
  """Returns splits, folders and class fractions of a simulated data set."""
  splits = {
    name: split_csv.read_split(simulate.csv_path(out, name))
    for name in simulate.SPLITS
  }
  rows = [
    (name, str(split.path), f"{len(split):,}") for name, split in splits.items()
  ]
  folders = sum(entry.is_dir() for entry in pathlib.Path(out).iterdir())
  table = text_table.format_table(["split", "file", "patches"], rows, text=2)
  lines = [table, "", f"{folders} folders in {out}", ""]
  counts = {name: _count(split).tolist() for name, split in splits.items()}
  lines.append(convert.format_classes(_LAND_COVER, counts))
  return "\n".join(lines)


def _count(split: split_csv.Split) -> np.ndarray:
  """Pixels of each land-cover class."""
  num_classes = TASKS[_LAND_COVER].num_classes
  total = np.zeros(num_classes, np.int64)
  for index in range(len(split)):
    labels, _ = geotiff.read_raster(split.file(_LAND_COVER, index))
    total += np.bincount(labels.ravel(), minlength=num_classes)
  return total
