"""Score a run on a split: table, JSON, figures."""

import argparse

from flairhub_jax import mesh
from flairhub_jax.data import pipeline
from flairhub_jax.inference import patches, report, subsets, trained, usage


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  trained.add_arguments(parser)
  parser.add_argument(
    "--subsets",
    choices=("all",),
    help="score every non-empty subset of the modalities, the others masked",
  )


def run(args: argparse.Namespace) -> int:
  """Evaluates the best checkpoint of a run."""
  mesh.keep_memory()
  network = trained.load(args.run, args.data, args.split)
  folder = network.run.results(args.split)
  scored = {
    t: patches.scored_classes(network.config, t)
    for t in network.config.data.tasks
  }
  # What a killed evaluation left counts only for one of the same kind.
  memory = patches.PartialConfusion(
    folder / "partial.json", {**network.origin, "subsets": args.subsets}
  )
  rows = []
  if args.subsets:
    by_subset = subsets.confusion_by_subset(
      network.runner, network.model, network.variables, memory
    )
    rows = report.write_subsets(folder, by_subset, scored, network.origin)
    confusion = next(iter(by_subset.values()))
  else:
    confusion = network.runner.confusion(network.variables, memory)
  scores = report.write_results(folder, confusion, scored, network.origin)
  num_patches = network.dataset.splits[args.split].num_patches
  shown = report.chosen_patches(num_patches)
  maps = network.runner.maps(network.variables, shown)
  report.draw_maps(folder / "maps.png", network.dataset, args.split, maps)
  weights = usage.measure(
    network.runner, network.model, network.variables, shown
  )
  if weights is not None:
    table = pipeline.PatchTable(network.dataset, args.split)
    titles = {index: table[index]["patch_id"] for index in shown}
    usage.write(folder, weights, titles, network.origin)
  memory.remove()
  print(report.format_table(scores, f"{args.split}, {num_patches} patches"))
  if rows:
    print(f"\n{subsets.format_table(rows)}")
  print()
  for path in sorted((*folder.glob("*.json"), *folder.glob("*.png"))):
    print(path)
  return 0
