"""Write a run's weights in the format of the reference."""

import argparse
import pathlib

from flairhub_jax import mesh, run_directory
from flairhub_jax.errors import InputError
from flairhub_jax.inference import trained
from flairhub_jax.weights import (
  files,
  reference,
  reference_export,
  reference_only,
  reference_yaml,
)

_PREFIX = "model."


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "--run", required=True, metavar="RUN", help="run directory"
  )
  parser.add_argument(
    "--out",
    required=True,
    metavar="FILE.safetensors",
    help="checkpoint to write; must not exist",
  )
  parser.add_argument(
    "--configs",
    required=True,
    metavar="DIR",
    help="folder for the reference's training YAML; must not have any yet",
  )


def run(args: argparse.Namespace) -> int:
  """Exports the best checkpoint."""
  mesh.tune_cpu_process()
  directory, config = run_directory.open_run(args.run)
  out, configs = pathlib.Path(args.out), pathlib.Path(args.configs)
  if out.suffix != ".safetensors":
    raise InputError("--out", "a name that ends in .safetensors", args.out)
  documents, notes = reference_export.documents(config, weights=str(out))
  targets = [out, *(configs / f"{name}.yaml" for name in documents)]
  for path in targets:
    if path.exists():
      raise InputError(path, "a new file", "an existing file")
  variables, step = trained.restore(args.run)
  unused = reference_only.load(
    directory.reference_only,
    reference_only.of_config(config),
    seed=config.seed,
  )
  # Learned task weights belong to the loss; the reference's are fixed.
  network = {
    collection: {
      name: tree
      for name, tree in trees.items()
      if not name.startswith("log_variance_")
    }
    for collection, trees in variables.items()
  }
  tensors = reference.to_reference(network, prefix=_PREFIX)
  tensors |= reference.to_reference(unused, prefix=_PREFIX)
  tensors |= reference.class_weights(
    {t: config.tasks[t].class_weights for t in config.data.tasks},
    [m for m in config.model.auxiliary if m in config.data.modalities],
  )
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    # The weights last, so that weights are never without their YAML.
    reference_yaml.write_documents(configs, documents)
    files.write_tensors(
      out, tensors, {"run": directory.path.name, "step": str(step)}
    )
  except OSError as error:
    raise InputError(f"{out}, {configs}", "writable folders", error) from error
  print(f"{out}: {len(tensors)} tensors of step {step}")
  for path in targets[1:]:
    print(path)
  for note in notes:
    print(f"note: {note}")
  return 0
