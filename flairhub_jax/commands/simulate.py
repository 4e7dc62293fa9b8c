"""Write a data set in the published layout."""

import argparse
import os
import pathlib

import numpy as np

from flairhub_jax import text_table
from flairhub_jax.commands import convert, shipped_schemas
from flairhub_jax.data import geotiff, label_values, simulate, split_csv
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import LabelTask, Schema


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
    help=f"default: all of the schema ({', '.join(FLAIR_HUB.sensors)})",
  )
  shipped_schemas.add_argument(parser)
  parser.add_argument(
    "--workers", type=int, help="processes; default: number of cores"
  )


def run(args: argparse.Namespace) -> int:
  """Simulates a data set and prints its splits and class fractions."""
  modalities = args.modalities and [
    name for value in args.modalities for name in value.split(",") if name
  ]
  schema = shipped_schemas.load(args.schema)
  simulate.simulate(
    args.out,
    schema=schema,
    num_patches=args.patches,
    pixels=args.pixels,
    modalities=modalities,
    seed=args.seed,
    num_workers=args.workers,
  )
  print(summarize(args.out, schema))
  return 0


def summarize(out: str | os.PathLike, schema: Schema) -> str:
  """Returns splits, folders and class fractions of a simulated data set.

  Fractions are those of the first task.
  """
  splits = {
    name: split_csv.read_split(simulate.csv_path(out, name), schema.columns)
    for name in simulate.SPLITS
  }
  rows = [
    (name, str(split.path), f"{len(split):,}") for name, split in splits.items()
  ]
  folders = sum(entry.is_dir() for entry in pathlib.Path(out).iterdir())
  table = text_table.format_table(["split", "file", "patches"], rows, text=2)
  lines = [table, "", f"{folders} folders in {out}"]
  for task in schema.task_rows[:1]:
    counts = {
      name: _count(split, task).tolist() for name, split in splits.items()
    }
    lines += ["", convert.format_classes(task, counts)]
  return "\n".join(lines)


def _count(split: split_csv.Split, task: LabelTask) -> np.ndarray:
  """Counts the pixels of each class."""
  total = np.zeros(task.num_classes, np.int64)
  for index in range(len(split)):
    labels, _ = geotiff.read_raster(split.file(task.stream, index))
    total += label_values.count_classes(labels, task)
  return total
