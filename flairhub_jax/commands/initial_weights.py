"""Initial weights of a run: random, of another run, or of an encoder file."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from flairhub_jax import checkpoint, run_directory
from flairhub_jax.data import augmentation, pipeline, records
from flairhub_jax.errors import InputError
from flairhub_jax.inference import trained
from flairhub_jax.models import build, initialise
from flairhub_jax.weights import files, timm, transfer


@dataclasses.dataclass(frozen=True)
class Start:
  """The start of a run.

  Attributes:
    variables: of the network; None: those of the run's checkpoint.
    notes: lines for the log about initialised and unused variables.
  """

  variables: dict[str, Any] | None
  notes: tuple[str, ...] = ()


def choose(
  config: Any,
  dataset: records.Dataset,
  model: Any,
  workdir: str | os.PathLike,
) -> Start:
  """Chooses the initial variables of a run.

  The network is traced here, so that incompatible sizes are refused before the
  run directory is created.

  Args:
    config: resolved configuration.
    dataset: converted data.
    model: the network for augmented patches.
    workdir: of the run.

  Returns:
    No variables if the run has a checkpoint.

  Raises:
    InputError: data lack an input, sizes are incompatible, or weights are of
      another network.
  """
  run, encoder = config.train.init_from, config.model.encoder_weights
  if _has_checkpoint(workdir):
    return Start(None)
  if run and encoder:
    raise InputError(
      "config.train.init_from",
      "none with config.model.encoder_weights",
      repr(run),
    )
  options = pipeline.build_read_options(config)
  reader = pipeline.PatchReader(dataset, "train", options)
  example = pipeline.example_batch(reader)
  augment = augmentation.build_augmentation(config, dataset)
  build.variables_shape(model, augment.resize(example))
  if run:
    return _of_run(config, model, example)
  variables = initialise.init_variables(model, example, seed=config.seed)
  return Start(_with_encoders(config, variables) if encoder else variables)


def _of_run(config: Any, model: Any, example: Any) -> Start:
  """Returns the variables of another run, with classes matched by name."""
  path = config.train.init_from
  _, source = run_directory.open_run(path)
  renamed = _renamed(config, source)
  if not renamed and _classes(source) == _classes(config):
    shape = build.variables_shape(model, example)
    return Start(trained.restore(path, shape)[0])
  # The position bias tables depend on the image size.
  with source.unlocked():
    for name in config.data.modalities:
      if (old := renamed.get(name, name)) in source.data.modalities:
        source.inputs[old].pixels = config.inputs[name].pixels
  own = build.build_segmenter(source)
  shape = build.variables_shape(own, build.input_shapes(source))
  variables, notes = transfer.transfer(
    trained.restore(path, shape)[0],
    initialise.init_variables(model, example, seed=config.seed),
    source=transfer.describe(source),
    target=transfer.describe(config),
    renamed=renamed,
    where=path,
  )
  bands = [
    f"{name} has the weights of {old}: {', '.join(pairs)}"
    for name, old in renamed.items()
    if name in config.data.modalities
    if (pairs := _pairs(config.inputs[name].bands, source.inputs[old].bands))
  ]
  return Start(variables, tuple(f"{path}: {x}" for x in (*bands, *notes)))


def _pairs(bands: Sequence[str], others: Sequence[str]) -> list[str]:
  return [f"{a} from {b}" for a, b in zip(bands, others, strict=False)]


def _classes(config: Any) -> dict[str, tuple[str, ...]]:
  return {
    task: config.schema.tasks[task].class_names for task in config.data.tasks
  }


def _renamed(config: Any, source: Any) -> dict[str, str]:
  """Returns new id -> old id from `config.train.init_names`.

  Raises:
    InputError: an unknown or repeated id.
  """
  where = "config.train.init_names"
  renamed: dict[str, str] = {}
  for pair in config.train.init_names:
    new, _, old = pair.partition("=")
    for kind in ("modalities", "tasks"):
      if new in config.data[kind]:
        old_ids = source.data[kind]
        break
    else:
      ids = (*config.data.modalities, *config.data.tasks)
      raise InputError(where, f"NEW=OLD, NEW of {', '.join(ids)}", repr(pair))
    if old not in old_ids:
      raise InputError(
        where, f"{new}=OLD, OLD of {', '.join(old_ids)}", repr(pair)
      )
    if new in renamed or old in renamed.values():
      raise InputError(where, "each id once", repr(pair))
    renamed[new] = old
  return renamed


def _has_checkpoint(workdir: str | os.PathLike) -> bool:
  folder = run_directory.RunDirectory(workdir).checkpoints
  if not folder.is_dir():
    return False
  checkpoints = checkpoint.Checkpoints(folder, read_only=True)
  step = checkpoints.latest_step()
  checkpoints.close()
  return step is not None


def _with_encoders(config: Any, variables: Any) -> dict[str, Any]:
  """Replaces the variables of every image encoder by those of a file."""
  path = config.model.encoder_weights
  tensors, metadata = files.read_tensors(path)
  if metadata.get(timm.ENCODER) != config.model.encoder:
    raise InputError(
      path,
      f"a file of `flairhub import-encoder` for {config.model.encoder}",
      metadata.get(timm.ENCODER, "a file without the name of an encoder"),
    )
  for modality in config.data.modalities:
    if not config.schema.sensors[modality].is_series:
      variables = timm.start_encoder(
        tensors, variables, f"encoder_{modality}", where=path
      )
  return variables
