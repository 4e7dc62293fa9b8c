"""A run opened for use: its network, its weights, the data it is shown."""

import argparse
import dataclasses
import os
from typing import Any

import jax

from flairhub_jax import checkpoint, mesh, run_directory
from flairhub_jax.data import records
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.inference import patches
from flairhub_jax.models import build, swin


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
  """What evaluation and prediction need.

  Attributes:
    run: the run directory.
    config: its configuration.
    dataset: the data at hand, which need not be those it was trained on.
    model: the network.
    runner: the network over one split.
    variables: weights of the best checkpoint.
    origin: run, step, data and split, to be kept with what comes out.
  """

  run: run_directory.RunDirectory
  config: Any
  dataset: records.Dataset
  model: Any
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
    averaged=config.train.ema_decay > 0,
  )
  origin = {
    "run": run.path.name,
    "step": step,
    "data": dataset.fingerprint,
    "split": split,
  }
  return TrainedNetwork(run, config, dataset, model, runner, variables, origin)


def restore(path: str | os.PathLike, shape: Any = None) -> tuple[Any, int]:
  """Restores the weights of a run's best checkpoint, on every device.

  Args:
    path: the run directory.
    shape: shapes of the network's variables where its images have another
      size than those of the run; tables of relative positions are resized.

  Returns:
    The variables, and the number of updates they have seen.

  Raises:
    InputError: no run, no checkpoint, or a checkpoint of another network.
    InputErrors: `shape` is of another network; all that differs.
  """
  run, config = run_directory.open_run(path)
  side = build.output_side(config)
  model = build.build_segmenter(config, output_size=(side, side))
  own = build.variables_shape(model, build.input_shapes(config))
  replicated = mesh.replicated(mesh.build_mesh())
  variables, step = checkpoint.restore_variables(
    run.checkpoints, own, replicated, averaged=config.train.ema_decay > 0
  )
  if shape is None or _shapes(shape) == _shapes(own):
    return variables, step
  if _shapes(shape).keys() == _shapes(own).keys():
    variables = swin.fit_bias_tables(variables, shape)
  there, here = _shapes(variables), _shapes(shape)
  problems = [
    f"{path}: {name}: expected {here.get(name, 'no such name')}, found "
    f"{there.get(name, 'nothing')}"
    for name in sorted(here.keys() | there.keys())
    if here.get(name) != there.get(name)
  ]
  if problems:
    raise InputErrors(problems)
  return jax.device_put(variables, replicated), step


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
