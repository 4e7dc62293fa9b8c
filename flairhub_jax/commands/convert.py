"""Convert GeoTIFFs to records."""

import argparse
import os
import pathlib

from flairhub_jax.configs import base
from flairhub_jax.data import convert, pipeline, records
from flairhub_jax.errors import InputError
from flairhub_jax.labels import TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  for split in records.SPLITS:
    parser.add_argument(
      f"--{split}",
      type=_path,
      metavar="CSV",
      help=f"split file of the {split} patches; at least one of the three",
    )
  parser.add_argument(
    "--metadata",
    type=_path,
    metavar="FOLDER",
    help="folder of GLOBAL_*_MTD_DATES.gpkg; by default GLOBAL_ALL_MTD beside "
    "the CSV or up to two folders above",
  )
  parser.add_argument(
    "--out",
    type=_path,
    required=True,
    metavar="FOLDER",
    help="output folder; an interrupted conversion is continued",
  )
  parser.add_argument(
    "--workers",
    type=int,
    default=os.cpu_count(),
    metavar="N",
    help="worker processes (default: %(default)s); 0: in the main process",
  )


def _path(text: str) -> pathlib.Path:
  # Shells leave `--out=~/x` as it is.
  return pathlib.Path(os.path.expanduser(text))


def run(args: argparse.Namespace) -> int:
  """Converts the splits and prints a summary."""
  splits = {
    split: getattr(args, split)
    for split in records.SPLITS
    if getattr(args, split) is not None
  }
  if not splits:
    raise InputError("arguments", "--train, --valid or --test", "none of them")
  if args.workers < 0:
    raise InputError("--workers", "0 or more", args.workers)
  filter_by_default = base.get_config().data.cloud_filter
  dataset = convert.convert(
    splits,
    args.out,
    metadata=args.metadata,
    cloud_filter=pipeline.build_cloud_filter(filter_by_default),
    num_workers=args.workers,
  )
  print(summarize(dataset))
  return 0


def summarize(dataset: records.Dataset) -> str:
  """Returns tables of splits, modalities and class fractions."""
  lines = [f"{dataset.folder}", "", f"{'split':8}{'patches':>9}"]
  lines += [
    f"{name:8}{info.num_patches:9,}" for name, info in dataset.splits.items()
  ]
  lines += ["", f"{'modality':20}{'size':>14}  {'type':9}{'dates':>9}  absent"]
  for name, info in dataset.modalities.items():
    size = " x ".join(map(str, info.shape[-3:]))
    is_series = info.max_dates is not None
    dates = f"{info.min_dates}-{info.max_dates}" if is_series else "-"
    absent = sum(
      split.absent.get(name, split.num_patches)
      for split in dataset.splits.values()
    )
    lines.append(f"{name:20}{size:>14}  {info.dtype:9}{dates:>9}  {absent:,}")
  for task in dataset.tasks:
    lines += ["", *_class_table(dataset, task)]
  return "\n".join(lines)


def _class_table(dataset: records.Dataset, task: str) -> list[str]:
  """Returns the fraction of each class in each split with labels."""
  counts = {
    name: info.class_counts[task]
    for name, info in dataset.splits.items()
    if task in info.class_counts
  }
  heading = "".join(f"{name:>9}" for name in counts)
  lines = [f"{task:26}{heading}"]
  for value, row in enumerate(TASKS[task].classes):
    if any(each[value] for each in counts.values()):
      shares = "".join(
        f"{each[value] / sum(each):9.2%}" for each in counts.values()
      )
      lines.append(f"{value:3} {row.name:22}{shares}")
  return lines
