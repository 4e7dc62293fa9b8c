"""Train a network, or continue an interrupted run."""

import argparse

import jax
import numpy as np

from flairhub_jax import (
  config_file,
  configuration,
  mesh,
  processes,
  run_directory,
  run_schema,
)
from flairhub_jax.commands import initial_weights
from flairhub_jax.data import augmentation, records
from flairhub_jax.errors import InputError
from flairhub_jax.inference import patches, report
from flairhub_jax.models import build
from flairhub_jax.training import class_counts, loop
from flairhub_jax.training.resolve import resolve


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags; `--config.…` overrides are read by `run`."""
  parser.add_argument(
    "--config",
    required=True,
    metavar="FILE.py[:ARG]",
    help="configuration; --config.section.field=… overrides any field",
  )
  parser.add_argument(
    "--workdir", required=True, metavar="RUN", help="run directory"
  )
  parser.add_argument(
    "--profile",
    action="store_true",
    help="write a trace of five steps to RUN/profile, for TensorBoard or"
    " Perfetto",
  )
  processes.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
  """Trains until the last step of the configuration."""
  processes.initialize_distributed(args)
  mesh.tune_cpu_process()
  config = config_file.load_config_file(args.config, args.overrides)
  if not config.data.path:
    raise InputError("config.data.path", "a folder of `flairhub convert`", "''")
  if config.train.compilation_cache:
    jax.config.update(
      "jax_compilation_cache_dir", config.train.compilation_cache
    )
  dataset = records.load_dataset(config.data.path)
  run_schema.check(config, dataset, tasks=config.data.tasks)
  augment = augmentation.build_augmentation(config, dataset)
  model = build.build_segmenter(
    config, output_size=augment.output_size(dataset.output_size)
  )
  config = resolve(config, dataset)
  _check_labels(config, dataset)
  start = initial_weights.choose(config, dataset, model, args.workdir)
  evaluate, draw = None, None
  if "valid" in dataset.splits:
    evaluate, draw = _validation(config, dataset)
  directory = run_directory.RunDirectory(args.workdir)
  state = loop.train(
    config,
    directory,
    dataset=dataset,
    model=model,
    evaluate=evaluate,
    draw=draw if config.train.validation_maps else None,
    initial_variables=start.variables,
    notes=start.notes,
    profiles=args.profile,
  )
  if processes.is_first():
    print(f"{int(state.step)} steps done: {directory.path}")
  return 0


def _validation(config, dataset):
  """Returns functions that score and draw the validation split."""
  network = build.build_segmenter(
    config, output_size=dataset.output_size, count_padding=False
  )
  runner = patches.SplitRunner(
    network,
    dataset,
    "valid",
    config,
    devices=mesh.build_mesh(**config.mesh),
  )
  tasks = configuration.label_tasks(config)
  drawn = report.sample_patches(
    dataset.splits["valid"].num_patches, config.train.validation_maps
  )

  def evaluate(variables):
    return patches.score_tasks(runner.confusion(variables), config)

  def draw(variables, path):
    predictions = runner.predictions(variables, drawn)
    if processes.is_first():
      path.parent.mkdir(parents=True, exist_ok=True)
      report.draw_maps(path, dataset, "valid", predictions, tasks)

  return evaluate, draw


def _check_labels(config, dataset: records.Dataset) -> None:
  """Checks that the training split has pixels of weighted classes."""
  by_task = class_counts.of_merged(config, dataset.splits["train"].class_counts)
  for task, counts in by_task.items():
    weights = np.asarray(config.tasks[task].class_weights)
    if not (np.asarray(counts) * weights > 0).any():
      raise InputError(
        f"config.tasks.{task}.class_weights",
        "a positive weight of a class that occurs",
        tuple(weights.tolist()),
      )
