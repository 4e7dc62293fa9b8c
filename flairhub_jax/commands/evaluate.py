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
  folder = network.run.results(args.split)
  memory = patches.PartialConfusion(folder / "partial.json", network.origin)
  confusion = network.runner.confusion(network.variables, memory)
  scored = {t: patches.scored_classes(network.config, t) for t in confusion}
  scores = report.write_results(folder, confusion, scored, network.origin)
  num_patches = network.dataset.splits[args.split].num_patches
  maps = network.runner.maps(
    network.variables, report.chosen_patches(num_patches)
  )
  report.draw_maps(folder / "maps.png", network.dataset, args.split, maps)
  memory.remove()
  print(report.format_table(scores, f"{args.split}, {num_patches} patches"))
  print()
  for name in ("scores.json", *sorted(p.name for p in folder.glob("*.png"))):
    print(folder / name)
  return 0
