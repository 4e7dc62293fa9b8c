"""Convert a checkpoint of the reference to a run directory."""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import jax

from flairhub_jax import checkpoint, configuration, run_directory
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError
from flairhub_jax.models import build, initialise
from flairhub_jax.weights import (
  files,
  reference,
  reference_config,
  reference_only,
  reference_yaml,
)

_MAX_NOTES = 10  # in the summary; log.txt has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "--weights",
    required=True,
    metavar="FILE.safetensors",
    help="checkpoint of the reference",
  )
  parser.add_argument(
    "--configs",
    required=True,
    metavar="DIR_OR_YAML",
    help="its training YAML: the published configs_train, or one file",
  )
  parser.add_argument(
    "--out", required=True, metavar="RUN", help="run directory to write"
  )
  parser.add_argument(
    "--allow",
    metavar="REGEX",
    help="matches keys that may be missing, unexpected or of another shape "
    "(such as a new head); log.txt lists them",
  )


def run(args: argparse.Namespace) -> int:
  """Imports a checkpoint; on an error nothing is written."""
  out = pathlib.Path(args.out)
  if out.exists() and not (out.is_dir() and not any(out.iterdir())):
    raise InputError(out, "a new or empty folder", "other files")
  allow = None
  if args.allow is not None:
    try:
      allow = re.compile(args.allow)
    except re.error as error:
      raise InputError("--allow", "a regular expression", error) from error
  config = base.get_config()
  # For scores that are comparable with the reference's.
  config.matmul_precision = "highest"
  notes = reference_config.fill_config(
    reference_yaml.read_documents(args.configs), config, where=args.configs
  )
  config = configuration.complete(config.to_dict(), where=args.configs)
  config.unlock()
  tensors, _ = files.read_tensors(args.weights)
  notes += _set_sizes(config, tensors)
  fitted = _fit(args, config, tensors, allow)
  notes += fitted.notes
  num_parameters = sum(
    leaf.size
    for variables in (fitted.variables, fitted.reference_only)
    for leaf in jax.tree.leaves(variables.get("params", {}))
  )
  origin = {
    "weights": os.path.basename(args.weights),
    "sha256": _sha256(args.weights),
    "configs": os.path.basename(os.path.normpath(args.configs)),
    "parameters": num_parameters,
    "notes": notes,
  }
  with _atomic_folder(out) as folder:
    write_run(folder, config, fitted, origin)
  print(_summary(out, config, origin))
  return 0


def _set_sizes(config: Any, tensors: Any) -> list[str]:
  """Derives the size of each image from its encoder's position bias tables."""
  encoder = build.build_image_encoder(config.model)()
  notes = []
  for modality in config.data.modalities:
    row = config.schema.sensors[modality]
    if row.is_series or not hasattr(encoder, "window"):
      continue
    size = reference.fitting_size(tensors, modality, encoder.window, row.pixels)
    config.inputs[modality].pixels = size
    if size != row.pixels:
      notes.append(
        f"{modality}: trained on patches of {size} pixels, not {row.pixels}"
      )
  return notes


def _fit(args, config, tensors, allow) -> reference.Fitted:
  segmenter = build.build_segmenter(config)
  batch = build.input_shapes(config)
  try:
    shape = build.variables_shape(segmenter, batch)
    described = reference_only.describe(segmenter, batch)
  except InputError as error:
    raise InputError(f"{args.configs}: {error}") from error
  return reference.fit_reference(
    tensors,
    shape,
    reference_only.shape_of(described),
    where=args.weights,
    resize_bias_tables=True,
    allow=allow,
    start=lambda: (
      initialise.init_variables(segmenter, batch, seed=config.seed),
      initialise.draw(described, seed=config.seed),
    ),
  )


def _sha256(path: str) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _atomic_folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary folder that is renamed to `out` on success."""
  out = out.absolute()
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    aside.mkdir()
  except OSError as error:
    raise InputError(out, "a folder that can be created", error) from error
  try:
    yield aside
    os.replace(aside, out)
  finally:
    shutil.rmtree(aside, ignore_errors=True)


def write_run(
  folder: pathlib.Path,
  config: Any,
  fitted: reference.Fitted,
  origin: dict[str, Any],
) -> None:
  """Writes the run directory of imported weights."""
  run = run_directory.RunDirectory(folder)
  run.config.write_text(configuration.to_json(config), encoding="utf-8")
  checkpoints = checkpoint.Checkpoints(run.checkpoints)
  checkpoints.save(fitted.variables, 0, None)
  checkpoints.close()
  reference_only.save(run.reference_only, fitted.reference_only)
  run.origin.write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
  lines = [f"imported {origin['weights']}, sha256 {origin['sha256']}"]
  text = "\n".join([*lines, *origin["notes"]]) + "\n"
  run.log.write_text(text, encoding="utf-8")


def _summary(out: pathlib.Path, config: Any, origin: dict[str, Any]) -> str:
  tasks = ", ".join(config.data.tasks)
  lines = [
    f"{out}: {origin['parameters'] / 1e6:.1f} M parameters",
    f"{', '.join(config.data.modalities)} -> {tasks}",
  ]
  sensors = config.schema.sensors
  if not all(sensors[m].is_series for m in config.data.modalities):
    lines.append(f"{config.model.encoder}, {config.model.decoder}")
  notes = origin["notes"]
  lines += [f"note: {note}" for note in notes[:_MAX_NOTES]]
  if len(notes) > _MAX_NOTES:
    lines.append(f"{len(notes) - _MAX_NOTES} more notes in {out / 'log.txt'}")
  lines += [
    "",
    f"flairhub evaluate --run {out} --data RECORDS",
    f"flairhub predict  --run {out} --data RECORDS --out MAPS",
    f"flairhub train    … --config.train.init_from={out}",
  ]
  return "\n".join(lines)
