"""Compare runs: tables, figures and an HTML page."""

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
    help="run directories, such as 'DIR/*', or folders of them",
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
  all_runs = runs.find_runs(args.runs, args.split)
  rows = configurations.group(all_runs, args.baseline)
  for each in all_runs:
    print(f"{each.title}: {each.state}")
  print(flush=True)  # counting the FLOPs takes a while
  written = report.write(pathlib.Path(args.out), all_runs, rows, args.split)
  for path in written:
    print(path)
  return 0
