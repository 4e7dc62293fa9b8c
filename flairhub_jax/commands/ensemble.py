"""The runs of a map: one, or an ensemble whose probabilities are averaged."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from flairhub_jax import (
  configuration,
  contract,
  run_directory,
  run_schema,
  schema_file,
)
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.inference import origin, trained
from flairhub_jax.inference.bias import Bias, by_class
from flairhub_jax.mapping.augmentation import Augmentation
from flairhub_jax.mapping.ensemble import (
  EnsembleNetwork,
  EnsembleReader,
  MapNetwork,
  MapReader,
)
from flairhub_jax.mapping.examples import Reader, stack
from flairhub_jax.mapping.inputs import SensorInput
from flairhub_jax.mapping.layout import Layout
from flairhub_jax.mapping.network import Groups, Programs, WindowNetwork
from flairhub_jax.models import build
from flairhub_jax.schema import LabelTask, Schema


@dataclasses.dataclass(frozen=True)
class Run:
  """One run.

  Attributes:
    folder: its directory.
    config: its configuration.
  """

  folder: run_directory.RunDirectory
  config: Any


def open_runs(paths: Sequence[str]) -> tuple[Run, ...]:
  """Opens runs, which must have the same tasks and agree on shared sensors.

  Raises:
    InputError: no run directory, or a run twice.
    InputErrors: tasks, classes or sensors differ.
  """
  runs = tuple(map(_open, paths))
  folders = [run.folder.path.resolve() for run in runs]
  for number, folder in enumerate(folders):
    if folder in folders[:number]:
      raise InputError("--run", "every run once", f"{paths[number]} twice")
  problems = [
    f"{run.folder.path}: {line}"
    for run in runs[1:]
    for line in _contradictions(runs[0], run)
  ]
  if problems:
    raise InputErrors(problems)
  return runs


def _open(path: str) -> Run:
  folder, config = run_directory.open_run(path)
  return Run(folder, run_schema.as_trained(config))


def _contradictions(first: Run, other: Run) -> list[str]:
  classes = [
    {
      name: list(task.class_names)
      for name, task in configuration.label_tasks(run.config).items()
    }
    for run in (first, other)
  ]
  lines = []
  if classes[0] != classes[1]:
    expected, found = map(json.dumps, classes)
    lines.append(
      f"expected the classes of {first.folder.path} ({expected}), found {found}"
    )
  own = other.config.data.modalities
  shared = [name for name in first.config.data.modalities if name in own]
  return lines + schema_file.contradictions(
    first.config.schema, other.config.schema, sensors=shared, tasks=()
  )


def sensors(runs: Sequence[Run]) -> tuple[Schema, tuple[str, ...]]:
  """The schema and the ids of the sensors that any of the runs reads."""
  first = runs[0].config
  if len(runs) == 1:
    return first.schema, tuple(first.data.modalities)
  rows = {
    name: run.config.schema.sensors[name]
    for run in reversed(runs)  # the first one counts
    for name in run.config.data.modalities
  }
  order = [*first.schema.sensors, *rows]
  names = tuple(name for name in dict.fromkeys(order) if name in rows)
  own = tuple(rows[name] for name in names)
  return Schema(name=first.schema.name, sensors=own), names


def join_contracts(runs: Sequence[Run]) -> contract.Contract:
  """What all runs expect of rasters; of a shared sensor, the first one."""
  every = [contract.of_run(run.config) for run in runs]
  rows = {
    name: row for own in reversed(every) for name, row in own.sensors.items()
  }
  return contract.Contract(sensors=rows, tasks=every[0].tasks)


@dataclasses.dataclass(frozen=True)
class Member:
  """The network of a run for the windows of a map.

  Attributes:
    reader: of its inputs.
    example: a batch of one window, for shapes.
    model: the network.
    variables: its weights.
    origin: run, step and digests, for the metadata.
  """

  reader: Reader
  example: Mapping[str, Any]
  model: Any
  variables: Any
  origin: Mapping[str, Any]


def load(
  runs: Sequence[Run],
  inputs: Mapping[str, SensorInput],
  layout: Layout,
  *,
  tasks: Mapping[str, LabelTask],
  bias: Bias,
  augmentation: Augmentation,
) -> list[Member]:
  """Loads the weights of runs; nothing is compiled.

  Args:
    runs: of `open_runs`.
    inputs: rasters of some of their sensors.
    layout: of the map.
    tasks: of the networks by id.
    bias: of the classes.
    augmentation: checked against the windows.

  Raises:
    InputError: a run without rasters or checkpoint, or an augmentation that
      does not fit.
    InputErrors: a checkpoint of another network.
  """
  members = []
  for run in runs:
    names = tuple(run.config.data.modalities)
    own = {name: each for name, each in inputs.items() if name in names}
    if not own:
      where = f"--run {run.folder.path}"
      raise InputError(where, f"rasters of any of {', '.join(names)}", "none")
    reader = Reader(run.config, own, layout)
    augmentation.check(
      [layout.shape, layout.logits, *reader.pixels.values()], reader.lengths
    )
    example = stack([reader.empty_example()])
    model = build.build_segmenter(run.config, output_size=layout.logits)
    model = model.clone(class_bias=by_class(bias, tasks))
    shape = build.variables_shape(model, example)
    variables, step = trained.restore(run.folder.path, shape)
    identity = _origin(run, variables, step)
    members.append(Member(reader, example, model, variables, identity))
  return members


def _origin(run: Run, variables: Any, step: int) -> dict[str, Any]:
  return {
    "run": run.folder.path.name,
    "step": step,
    "checkpoint": run.folder.checkpoint_digest(step),
    "weights": origin.digest(jax.device_get(variables)),
    "config": run_directory.config_digest(run.config),
  }


def join_origins(members: Sequence[Member]) -> dict[str, Any]:
  """The origin of a map: that of its run, or the list of all."""
  if len(members) == 1:
    return dict(members[0].origin)
  return {"ensemble": [dict(member.origin) for member in members]}


def join_readers(members: Sequence[Member]) -> MapReader:
  """A reader of the inputs of all networks."""
  if len(members) == 1:
    return members[0].reader
  return EnsembleReader([member.reader for member in members])


def compile_networks(
  members: Sequence[Member],
  layout: Layout,
  *,
  batch_size: int,
  augmentation: Augmentation,
  groups: Groups,
) -> MapNetwork:
  """Compiles all networks; those that differ in weights only, once."""
  programs: Programs = {}
  networks = [
    WindowNetwork(
      member.model,
      member.variables,
      member.example,
      layout,
      batch_size=batch_size,
      augmentation=augmentation,
      groups=groups,
      programs=programs,
    )
    for member in members
  ]
  return networks[0] if len(networks) == 1 else EnsembleNetwork(networks)
