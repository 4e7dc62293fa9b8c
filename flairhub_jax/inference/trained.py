"""A run loaded for inference: its network, weights and data."""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from flairhub_jax import (
  checkpoint,
  configuration,
  mesh,
  run_directory,
  run_schema,
)
from flairhub_jax.data import records
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.inference import bias as biases
from flairhub_jax.inference import origin as origins
from flairhub_jax.inference import patches
from flairhub_jax.models import build, swin
from flairhub_jax.schema import LabelTask

_MAX_LISTED = 9  # parameters in an error


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
  """A network with its weights and the split it runs on.

  Attributes:
    config: configuration of the run.
    tasks: its label tasks by id, with merged classes.
    dataset: converted data, not necessarily the training data.
    model: the network.
    runner: runs the network over one split.
    variables: weights of the best checkpoint.
    bias: class biases, which `model` adds.
    origin: from `origin.describe`, stored with every result.
    results: folder of the results on this split.
  """

  config: Any
  tasks: Mapping[str, LabelTask]
  dataset: records.Dataset
  model: Any
  runner: patches.SplitRunner
  variables: Any
  bias: biases.Bias
  origin: dict[str, Any]
  results: pathlib.Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares `--run`, `--data`, `--split` and `--bias`."""
  parser.add_argument(
    "--run", required=True, metavar="RUN", help="run directory of `train`"
  )
  parser.add_argument(
    "--data",
    metavar="DIR",
    help="converted data; default: the training data of the run",
  )
  parser.add_argument("--split", default="test", help="default: test")
  parser.add_argument(
    "--bias",
    action="append",
    default=[],
    metavar="TASK:CLASS=VALUE",
    help="add a number to the logits of a class; repeatable",
  )


def load(
  path: str | os.PathLike,
  data: str | os.PathLike | None,
  split: str,
  *,
  with_labels: bool = True,
  bias: Sequence[str] = (),
) -> TrainedNetwork:
  """Loads a run for a split of its training data or of other data.

  The patch size may differ from that of training.

  Args:
    path: the run directory.
    data: folder of converted data; None: the run's.
    split: of the data.
    with_labels: whether to read labels.
    bias: options for `bias.parse`.

  Raises:
    InputError: no run, no checkpoint, data that lack an input, or an unknown
      class.
    InputErrors: a checkpoint of another network or data of another schema;
      lists the differences.
  """
  run, config = run_directory.open_run(path)
  tasks = configuration.label_tasks(config)
  own = biases.parse(bias, tasks)
  if not data and not config.data.path:
    raise InputError("--data", "converted data, as the run has none", "none")
  dataset = records.load_dataset(data or config.data.path)
  run_schema.check(config, dataset, tasks=tasks if with_labels else ())
  model = build.build_segmenter(config, output_size=dataset.output_size)
  model = model.clone(class_bias=biases.by_class(own, tasks))
  runner = patches.SplitRunner(
    model, dataset, split, config, with_labels=with_labels
  )
  shape = build.variables_shape(model, runner.example_batch())
  stored, step = _stored(run, config)
  origin = origins.describe(
    run, config, step, stored, data=dataset.fingerprint, split=split, bias=own
  )
  name = run_directory.data_name(dataset.folder, dataset.fingerprint, config)
  return TrainedNetwork(
    config=config,
    tasks=tasks,
    dataset=dataset,
    model=model,
    runner=runner,
    variables=_replicate(fit(stored, shape, where=run.path)),
    bias=own,
    origin=origin,
    results=run.results(_folder_name(split, own), name),
  )


def _folder_name(split: str, bias: biases.Bias) -> str:
  """Returns the folder of the results, separate for each bias."""
  if not bias:
    return split
  text = json.dumps(bias, sort_keys=True)
  return f"{split}-bias-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def restore(path: str | os.PathLike, shape: Any = None) -> tuple[Any, int]:
  """Restores the weights of a run's best checkpoint, on every device.

  Args:
    path: the run directory.
    shape: shapes of the network's variables; None: those of the run's network,
      with relative position tables as stored.

  Returns:
    The variables, and the number of updates.

  Raises:
    InputError: no run or no checkpoint.
    InputErrors: a checkpoint of another network; lists the differences.
  """
  run, config = run_directory.open_run(path)
  stored, step = _stored(run, config)
  if shape is not None:
    return _replicate(fit(stored, shape, where=run.path)), step
  model = build.build_segmenter(config)
  own = build.variables_shape(model, build.input_shapes(config))
  fit(stored, own, where=run.path)
  return stored, step


def fit(variables: Any, shape: Any, *, where: object) -> Any:
  """Fits weights to the network for another image size.

  Args:
    variables: as stored.
    shape: shapes of the network's variables, to which position bias tables are
      resized.
    where: source of the weights, for errors.

  Raises:
    InputErrors: `shape` is of another network; lists the differences.
  """
  if _shapes(shape).keys() == _shapes(variables).keys():
    variables = swin.fit_bias_tables(variables, shape)
  actual, expected = _shapes(variables), _shapes(shape)
  problems = [
    f"{where}: {name}: expected {expected.get(name, 'no such name')}, found "
    f"{actual.get(name, 'nothing')}"
    for name in sorted(expected.keys() | actual.keys())
    if expected.get(name) != actual.get(name)
  ]
  if len(problems) > _MAX_LISTED:
    more = f"{where}: {len(problems) - _MAX_LISTED} more parameters differ"
    problems = [*problems[:_MAX_LISTED], more]
  if problems:
    raise InputErrors(problems)
  return variables


def _stored(run, config):
  return checkpoint.restore_variables(
    run.checkpoints,
    mesh.replicated(mesh.build_mesh()),
    averaged=config.train.ema_decay > 0,
  )


def _replicate(variables):
  replicated = mesh.replicated(mesh.build_mesh())
  return mesh.place_state(
    variables, jax.tree.map(lambda _: replicated, variables)
  )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
