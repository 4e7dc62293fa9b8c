"""A run opened for use: its network, its weights, the data it is shown."""

import argparse
import dataclasses
import os
from typing import Any

from flairhub_jax import checkpoint, mesh, run_directory
from flairhub_jax.data import records
from flairhub_jax.errors import InputError
from flairhub_jax.inference import patches
from flairhub_jax.models import build


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
  """What evaluation and prediction need.

  Attributes:
    run: the run directory.
    config: its configuration.
    dataset: the data at hand, which need not be those it was trained on.
    runner: the network over one split.
    variables: weights of the best checkpoint.
    origin: run, step, data and split, to be kept with what comes out.
  """

  run: run_directory.RunDirectory
  config: Any
  dataset: records.Dataset
  runner: patches.SplitRunner
  variables: Any
  origin: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares `--run`, `--data` and `--split`."""
  parser.add_argument(
    "--run", required=True, metavar="RUN", help="run directory of `train`"
  )
  parser.add_argument(
    "--data",
    metavar="DIR",
    help="converted data; default: those the run was trained on",
  )
  parser.add_argument("--split", default="test", help="default: test")


def load(
  path: str | os.PathLike,
  data: str | os.PathLike | None,
  split: str,
  *,
  with_labels: bool = True,
) -> TrainedNetwork:
  """Opens a run on a split of its own data or of others.

  Raises:
    InputError: no run, no checkpoint, or data without what it needs.
  """
  run, config = run_directory.open_run(path)
  if not data and not config.data.path:
    raise InputError("--data", "converted data: the run names none", "nothing")
  dataset = records.load_dataset(data or config.data.path)
  model = build.build_segmenter(config, output_size=dataset.output_size)
  runner = patches.SplitRunner(
    model, dataset, split, config, with_labels=with_labels
  )
  batch = runner.example_batch()
  variables, step = checkpoint.restore_variables(
    run.checkpoints,
    build.variables_shape(model, batch),
    mesh.replicated(mesh.build_mesh()),
  )
  origin = {
    "run": run.path.name,
    "step": step,
    "data": dataset.fingerprint,
    "split": split,
  }
  return TrainedNetwork(run, config, dataset, runner, variables, origin)
