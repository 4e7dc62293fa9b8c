"""Convert GeoTIFFs to records."""

import argparse
import os
import pathlib
from collections.abc import Mapping, Sequence

from flairhub_jax import text_table
from flairhub_jax.commands import shipped_schemas
from flairhub_jax.configs import base
from flairhub_jax.data import convert, pipeline, records
from flairhub_jax.errors import InputError
from flairhub_jax.schema import LabelTask


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  for split in records.SPLITS:
    parser.add_argument(
      f"--{split}",
      type=pathlib.Path,
      metavar="CSV",
      help=f"split file of the {split} patches; at least one of the three",
    )
  parser.add_argument(
    "--metadata",
    type=pathlib.Path,
    metavar="FOLDER",
    help="folder of the files with dates; default: GLOBAL_ALL_MTD in the "
    "folder of the CSV or up to two levels above",
  )
  shipped_schemas.add_argument(parser)
  parser.add_argument(
    "--out",
    type=pathlib.Path,
    required=True,
    metavar="FOLDER",
    help="output folder; an interrupted conversion is continued",
  )
  parser.add_argument(
    "--workers",
    type=int,
    default=os.cpu_count(),
    metavar="N",
    help="worker processes (default: %(default)s); 0: the main process only",
  )


def run(args: argparse.Namespace) -> int:
  """Converts the splits and prints a summary."""
  splits = {
    split: getattr(args, split)
    for split in records.SPLITS
    if getattr(args, split) is not None
  }
  if not splits:
    raise InputError("arguments", "--train, --valid or --test", "none")
  if args.workers < 0:
    raise InputError("--workers", "0 or more", args.workers)
  schema = shipped_schemas.load(args.schema)
  default_filter = base.get_config().data.cloud_filter
  dataset = convert.convert(
    splits,
    args.out,
    schema=schema,
    metadata=args.metadata,
    cloud_filter=pipeline.build_cloud_filter(default_filter),
    num_workers=args.workers,
  )
  print(summarize(dataset))
  return 0


def summarize(dataset: records.Dataset) -> str:
  """Returns tables of splits, sensors and class fractions."""
  splits = [(name, f"{i.num_patches:,}") for name, i in dataset.splits.items()]
  modalities = []
  for name, info in dataset.modalities.items():
    is_series = info.max_dates is not None
    absent = sum(
      split.absent.get(name, split.num_patches)
      for split in dataset.splits.values()
    )
    size = " x ".join(map(str, info.shape[-3:]))
    dates = f"{info.min_dates}-{info.max_dates}" if is_series else "-"
    modalities.append((name, info.dtype, size, dates, f"{absent:,}"))
  headers = ["modality", "type", "size", "dates", "absent"]
  tables = [
    text_table.format_table(["split", "patches"], splits),
    text_table.format_table(headers, modalities, text=2),
  ]
  for name in dataset.tasks:
    counts = {
      split: info.class_counts[name]
      for split, info in dataset.splits.items()
      if name in info.class_counts
    }
    if counts:
      tables.append(format_classes(dataset.schema.tasks[name], counts))
  return "\n\n".join([f"{dataset.folder}", *tables])


def format_classes(task: LabelTask, counts: Mapping[str, Sequence[int]]) -> str:
  """Returns a table of the fraction of each class.

  Args:
    task: the label task.
    counts: number of pixels of each class, by split.
  """
  rows = [
    (
      f"{index} {name}",
      *(f"{c[index] / max(1, sum(c)):.2%}" for c in counts.values()),
    )
    for index, name in enumerate(task.class_names)
  ]
  return text_table.format_table([task.id, *counts], rows)
