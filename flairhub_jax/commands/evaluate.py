"""Score a run on a split: table, JSON, figures."""

import argparse
import pathlib

from flairhub_jax import mesh, processes
from flairhub_jax.data import pipeline
from flairhub_jax.inference import (
  coarser,
  evaluation,
  origin,
  partial,
  patches,
  report,
  subsets,
  trained,
  usage,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  trained.add_arguments(parser)
  parser.add_argument(
    "--subsets",
    choices=("all",),
    help="score every non-empty subset of the modalities, others masked out",
  )
  parser.add_argument(
    "--merge",
    action="append",
    default=[],
    metavar="TASK=FILE.json",
    help='score on merged classes too: {"new": ["class", …], …}, every class'
    " once; repeatable",
  )
  parser.add_argument(
    "--out",
    metavar="DIR",
    help="folder of the results; default: RUN/results/<data>/<split>",
  )
  processes.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
  """Evaluates the best checkpoint of a run."""
  processes.initialize_distributed(args)
  mesh.tune_cpu_process()
  network = trained.load(args.run, args.data, args.split, bias=args.bias)
  levels = coarser.above(network.config.schema, network.tasks)
  levels += coarser.of_files(args.merge, network.tasks)
  folder = pathlib.Path(args.out) if args.out else network.results
  processes.main_process_first(lambda: _prepare(args, folder, network.origin))
  # With subsets there are more sums.
  progress = partial.PartialSums(
    folder / "partial.json", {**network.origin, "subsets": args.subsets}
  )
  results = evaluation.evaluate(
    network.runner,
    network.model,
    network.variables,
    tasks=network.tasks,
    drawn=report.sample_patches(len(network.runner)),
    with_subsets=bool(args.subsets),
    progress=progress,
  )
  # The other processes wait, and fail with it.
  processes.main_process_first(
    lambda: (
      processes.is_first() and _write(args, folder, network, levels, results)
    )
  )
  progress.remove()
  return 0


def _prepare(args, folder, own):
  """Checks before the evaluation that results can be written."""
  if args.out:
    origin.claim(folder, own, what="results")
  else:
    origin.make_writable(folder, otherwise=", or another one with --out")


def _write(args, folder, network, levels, results):
  """Writes all results, the scores last, and prints them."""
  tasks = network.tasks
  scored = {
    task: patches.scored_classes(network.config, task) for task in tasks
  }
  written = [folder / "maps.png"]
  table = pipeline.PatchTable(network.dataset, args.split)
  report.draw_maps(written[0], network.dataset, args.split, results.maps, tasks)
  if results.usage is not None:
    titles = {index: table[index]["patch_id"] for index in results.maps}
    written += usage.write(folder, results.usage, titles, network.origin, tasks)
  rows = []
  if results.by_subset is not None:
    rows = report.write_subsets(
      folder, results.by_subset, scored, tasks, network.origin
    )
    written.append(folder / "subsets.json")
  merged = coarser.score(levels, results.confusion, scored)
  scores = report.write_results(
    folder, results.confusion, scored, tasks, network.origin, merged
  )
  written += [folder / f"confusion_{task}.png" for task in scores]
  written.append(folder / "scores.json")
  heading = f"{args.split}, {len(network.runner)} patches"
  print(report.format_table(scores, tasks, heading))
  if merged:
    print(f"\n{coarser.format_table(merged, heading)}")
  if rows:
    print(f"\n{subsets.format_table(rows, tasks)}")
  print()
  for path in sorted(written):
    print(path)
