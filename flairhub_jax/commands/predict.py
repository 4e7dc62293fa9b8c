"""Write a georeferenced class map per patch."""

import argparse
import pathlib

from flairhub_jax import contract, mesh, processes, terminal
from flairhub_jax.inference import bias, origin, patches, report, trained


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  trained.add_arguments(parser)
  parser.add_argument(
    "--out", required=True, metavar="DIR", help="folder of the maps"
  )
  processes.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
  """Predicts with the best checkpoint of a run; labels are not needed."""
  processes.initialize_distributed(args)
  mesh.tune_cpu_process()
  network = trained.load(
    args.run, args.data, args.split, with_labels=False, bias=args.bias
  )
  if processes.is_first():
    for line in _unlikely(network):
      terminal.print_line(f"warning: {line}")
  out = pathlib.Path(args.out)
  processes.main_process_first(
    lambda: origin.claim(out, network.origin, what="maps")
  )
  num_patches = patches.write_maps(
    network.runner,
    network.variables,
    dataset=network.dataset,
    split=args.split,
    tasks=network.tasks,
    out=out,
    notes={task: bias.describe(network.bias, task) for task in network.tasks},
  )
  figure = out / "maps.png"
  if not figure.exists():
    predictions = network.runner.predictions(
      network.variables, report.sample_patches(num_patches)
    )

    def draw() -> None:
      if processes.is_first():
        report.draw_maps(
          figure, network.dataset, args.split, predictions, network.tasks
        )

    # The other processes wait, and fail with it.
    processes.main_process_first(draw)
  if processes.is_first():
    print(f"overview: {figure}")
    for task in network.tasks:
      print(f"{num_patches} maps in {out / task}")
  return 0


def _unlikely(network: trained.TrainedNetwork) -> list[str]:
  """Sensors of other data whose values are far from those of the training."""
  config, dataset = network.config, network.dataset
  if dataset.fingerprint == config.data.fingerprint:
    return []
  own = contract.of_run(config)
  return [
    f"{dataset.folder}: {line}" for line in contract.unlikely_data(own, dataset)
  ]
