"""Train a network, or continue an interrupted run."""

import argparse

import numpy as np

from flairhub_jax import configuration, mesh, run_directory
from flairhub_jax.data import records
from flairhub_jax.errors import InputError
from flairhub_jax.inference import patches
from flairhub_jax.models import build
from flairhub_jax.training import loop


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags; `--config.…` overrides are read by `run`."""
  parser.add_argument(
    "--config",
    required=True,
    metavar="FILE.py[:ARG]",
    help="configuration; any field is overridden by --config.section.field=…",
  )
  parser.add_argument(
    "--workdir", required=True, metavar="RUN", help="run directory"
  )


def run(args: argparse.Namespace) -> int:
  """Trains until the last step of the configuration."""
  mesh.keep_cpu_memory()
  config = configuration.load_config_file(args.config, args.overrides)
  if not config.data.path:
    raise InputError("config.data.path", "a folder of `flairhub convert`", "''")
  dataset = records.load_dataset(config.data.path)
  model = build.build_segmenter(config, output_size=dataset.output_size)
  config = loop.resolve(config, dataset)
  _check_labels(config, dataset)
  directory = run_directory.start_or_continue(args.workdir, config)
  evaluate = None
  if "valid" in dataset.splits:
    runner = patches.SplitRunner(model, dataset, "valid", config)

    def evaluate(variables):
      return patches.score_tasks(runner.confusion(variables), config)

  state = loop.train(
    config, directory, dataset=dataset, model=model, evaluate=evaluate
  )
  print(f"{int(state.step)} steps done: {directory.path}")
  return 0


def _check_labels(config, dataset: records.Dataset) -> None:
  """Refuses a training split in which no pixel counts."""
  for task in config.data.tasks:
    counts = dataset.splits["train"].class_counts.get(task)
    weights = np.asarray(config.labels[task].class_weights)
    if counts is not None and not (np.asarray(counts) * weights > 0).any():
      raise InputError(
        f"config.labels.{task}.class_weights",
        "a positive weight of a class that occurs",
        tuple(weights.tolist()),
      )
