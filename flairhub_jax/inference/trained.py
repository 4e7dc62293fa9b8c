"""A run opened for use: its network, its weights, the data it is shown."""

import argparse
import dataclasses
import os
import pathlib
from typing import Any

import jax

from flairhub_jax import checkpoint, mesh, run_directory
from flairhub_jax.data import records
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.inference import origin as origins
from flairhub_jax.inference import patches
from flairhub_jax.models import build, swin

# Complaints name so many parameters.
_NAMED = 9


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
  """What evaluation and prediction need.

  Attributes:
    config: configuration of the run.
    dataset: the data at hand, which need not be those it was trained on.
    model: the network.
    runner: the network over one split.
    variables: weights of the best checkpoint.
    origin: of `origin.describe`, to be kept with what comes out.
    results: folder of the results on this split of these data.
  """

  config: Any
  dataset: records.Dataset
  model: Any
  runner: patches.SplitRunner
  variables: Any
  origin: dict[str, Any]
  results: pathlib.Path


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

  Patches may have another size than those it was trained on.

  Raises:
    InputError: no run, no checkpoint, or data without what it needs.
    InputErrors: a checkpoint of another network; what differs.
  """
  run, config = run_directory.open_run(path)
  if not data and not config.data.path:
    raise InputError("--data", "converted data: the run names none", "nothing")
  dataset = records.load_dataset(data or config.data.path)
  model = build.build_segmenter(config, output_size=dataset.output_size)
  runner = patches.SplitRunner(
    model, dataset, split, config, with_labels=with_labels
  )
  shape = build.variables_shape(model, runner.example_batch())
  stored, step = _stored(run, config)
  origin = origins.describe(
    run, config, step, stored, data=dataset.fingerprint, split=split
  )
  name = run_directory.data_name(dataset.folder, dataset.fingerprint, config)
  return TrainedNetwork(
    config=config,
    dataset=dataset,
    model=model,
    runner=runner,
    variables=_everywhere(fit(stored, shape, where=run.path)),
    origin=origin,
    results=run.results(split, name),
  )


def restore(path: str | os.PathLike, shape: Any = None) -> tuple[Any, int]:
  """Restores the weights of a run's best checkpoint, on every device.

  Args:
    path: the run directory.
    shape: shapes of the network's variables; None: those of the run's own
      network, with tables of relative positions as they are stored.

  Returns:
    The variables, and the number of updates they have seen.

  Raises:
    InputError: no run or no checkpoint.
    InputErrors: a checkpoint of another network; what differs.
  """
  run, config = run_directory.open_run(path)
  stored, step = _stored(run, config)
  if shape is not None:
    return _everywhere(fit(stored, shape, where=run.path)), step
  side = build.output_side(config)
  model = build.build_segmenter(config, output_size=(side, side))
  own = build.variables_shape(model, build.input_shapes(config))
  fit(stored, own, where=run.path)
  return stored, step


def fit(variables: Any, shape: Any, *, where: object) -> Any:
  """Fits weights to a network, whose images may have another size.

  Args:
    variables: as stored.
    shape: shapes of the network's variables; tables of relative positions are
      resized to them.
    where: the weights came from, for complaints.

  Raises:
    InputErrors: `shape` is of another network; what differs.
  """
  if _shapes(shape).keys() == _shapes(variables).keys():
    variables = swin.fit_bias_tables(variables, shape)
  there, here = _shapes(variables), _shapes(shape)
  problems = [
    f"{where}: {name}: expected {here.get(name, 'no such name')}, found "
    f"{there.get(name, 'nothing')}"
    for name in sorted(here.keys() | there.keys())
    if here.get(name) != there.get(name)
  ]
  if len(problems) > _NAMED:
    more = f"{where}: {len(problems) - _NAMED} more parameters differ"
    problems = [*problems[:_NAMED], more]
  if problems:
    raise InputErrors(problems)
  return variables


def _stored(run, config):
  return checkpoint.restore_variables(
    run.checkpoints,
    mesh.replicated(mesh.build_mesh()),
    averaged=config.train.ema_decay > 0,
  )


def _everywhere(variables):
  replicated = mesh.replicated(mesh.build_mesh())
  return mesh.place_state(
    variables, jax.tree.map(lambda _: replicated, variables)
  )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
