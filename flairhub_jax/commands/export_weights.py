"""Write a run's weights as the reference loads them."""

import argparse
import pathlib

from flairhub_jax import mesh, run_directory
from flairhub_jax.errors import InputError
from flairhub_jax.inference import trained
from flairhub_jax.models import build
from flairhub_jax.weights import (
  files,
  reference,
  reference_export,
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
    help="folder for the reference's training YAML; must not hold any",
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
      raise InputError(path, "no such file yet", "one, which is not replaced")
  side = build.output_side(config)
  segmenter = build.build_segmenter(config, output_size=(side, side))
  variables, step = trained.restore(args.run)
  # Learned weights of tasks belong to the loss, which the reference fixes.
  network = {
    collection: {
      name: tree
      for name, tree in trees.items()
      if not name.startswith("log_variance_")
    }
    for collection, trees in variables.items()
  }
  tensors = reference.to_reference(network, prefix=_PREFIX)
  tensors |= reference.class_weights(
    {t: config.labels[t].class_weights for t in config.data.tasks},
    segmenter.auxiliary_modalities,
  )
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    # The weights come last: whoever sees them finds their YAML.
    reference_yaml.write_documents(configs, documents)
    files.write_tensors(
      out, tensors, {"run": directory.path.name, "step": str(step)}
    )
  except OSError as error:
    raise InputError(
      f"{out}, {configs}", "places that can be written", error
    ) from error
  print(f"{out}: {len(tensors)} tensors of step {step}")
  for path in targets[1:]:
    print(path)
  for note in notes:
    print(f"note: {note}")
  return 0
