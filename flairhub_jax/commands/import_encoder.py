"""Import an ImageNet encoder of timm or torchvision."""

import argparse
import pathlib

import jax
import jax.numpy as jnp

from flairhub_jax.errors import InputError
from flairhub_jax.models import build
from flairhub_jax.weights import files, reference_config, timm


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "--weights",
    required=True,
    metavar="FILE.safetensors",
    help="ImageNet classifier of timm (for ResNet, also of torchvision)",
  )
  parser.add_argument(
    "--encoder", required=True, metavar="NAME", help="its name in timm"
  )
  parser.add_argument(
    "--out",
    required=True,
    metavar="FILE.safetensors",
    help="file for config.model.encoder_weights; must not exist",
  )


def run(args: argparse.Namespace) -> int:
  """Imports an encoder; on an error nothing is written."""
  names = [
    n for n in build.ENCODERS if n not in reference_config.NOT_IN_REFERENCE
  ]
  if args.encoder not in names:
    raise InputError(
      "--encoder", f"one of {', '.join(names)}", repr(args.encoder)
    )
  out = pathlib.Path(args.out)
  if out.exists():
    raise InputError(out, "a new file", "an existing file")
  tensors, _ = files.read_tensors(args.weights)
  encoder = build.ENCODERS[args.encoder]()
  # So large that no window shrinks.
  size = 32 * getattr(encoder, "window", 2)
  shape = jax.eval_shape(
    lambda key, x: encoder.init(key, x, False),
    jax.eval_shape(jax.random.key, 0),
    jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32),
  )
  values = timm.import_encoder(tensors, shape, where=args.weights)
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_tensors(out, values, {timm.ENCODER: args.encoder})
  except OSError as error:
    raise InputError(out, "a writable folder", error) from error
  number = sum(v.size for n, v in values.items() if n.startswith("params/"))
  print(f"{out}: {args.encoder}, {number / 1e6:.1f} M parameters")
  print(f"flairhub train … --config.model.encoder_weights={out}")
  return 0
