"""Compare runs: tables, figures and one page of a study."""

import argparse
import pathlib

from flairhub_jax.studies import configurations, report, runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "--runs",
    required=True,
    nargs="+",
    metavar="PATTERN",
    help="run directories, such as 'DIR/*'; folders of them are entered",
  )
  parser.add_argument("--out", required=True, metavar="DIR")
  parser.add_argument("--split", default="test", help="default: test")
  parser.add_argument(
    "--baseline",
    metavar="NAME",
    help="configuration the others are compared with; default: the first",
  )


def run(args: argparse.Namespace) -> int:
  """Writes the report of all finished runs."""
  found = runs.find_runs(args.runs, args.split)
  rows = configurations.group(found, args.baseline)
  for one in found:
    print(f"{one.folder.parent.name}/{one.folder.name}: {one.state}")
  print(flush=True)  # counting the networks takes a while
  written = report.write(pathlib.Path(args.out), found, rows, args.split)
  for path in written:
    print(path)
  return 0
