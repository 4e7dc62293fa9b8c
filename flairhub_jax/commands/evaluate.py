"""Score a run on a split: table, JSON, figures."""

import argparse

from flairhub_jax import mesh
from flairhub_jax.inference import patches, report, trained


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  trained.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
  """Evaluates the best checkpoint of a run."""
  mesh.keep_cpu_memory()
  network = trained.load(args.run, args.data, args.split)
  keep = report.chosen_patches(network.dataset.splits[args.split].num_patches)
  confusion, maps = network.runner.confusion(network.variables, keep)
  folder = network.run.results(args.split)
  scored = {t: patches.scored_classes(network.config, t) for t in confusion}
  scores = report.write_results(folder, confusion, scored, network.origin)
  report.draw_maps(folder / "maps.png", network.dataset, args.split, maps)
  num_patches = network.dataset.splits[args.split].num_patches
  print(report.format_table(scores, f"{args.split}, {num_patches} patches"))
  print()
  for name in ("scores.json", *sorted(p.name for p in folder.glob("*.png"))):
    print(folder / name)
  return 0
