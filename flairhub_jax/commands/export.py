"""Write a network as one file that JAX runs without this software."""

import argparse
import os
import pathlib

import jax
import jax.numpy as jnp

from flairhub_jax import __version__, mesh, run_directory
from flairhub_jax.errors import InputError, RunError
from flairhub_jax.inference import export, export_contract, origin, trained


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "--run", required=True, metavar="RUN", help="run directory of `train`"
  )
  parser.add_argument(
    "--out",
    required=True,
    metavar="FILE.zip",
    help="archive of program, weights and contract; must not exist",
  )
  parser.add_argument(
    "--format",
    choices=["stablehlo"],
    default="stablehlo",
    help="StableHLO for CPUs, NVIDIA GPUs and TPUs, read by jax.export",
  )


def run(args: argparse.Namespace) -> int:
  """Exports the best checkpoint."""
  mesh.tune_cpu_process()
  folder, config = run_directory.open_run(args.run)
  out = pathlib.Path(args.out)
  _check_out(out)
  variables, step = trained.restore(args.run)
  # On one device: a program of several would ask for as many.
  variables = jax.tree.map(jnp.asarray, jax.device_get(variables))
  shapes = export.batch_shapes(config)
  contract = export_contract.describe(
    config,
    shapes,
    origin={
      "software": f"flairhub_jax {__version__}",
      "jax": jax.__version__,
      "run": folder.path.name,
      "step": step,
      "checkpoint": folder.checkpoint_digest(step),
      "weights": origin.digest(variables),
      "config": run_directory.config_digest(config),
    },
  )
  program = export.export(config, variables, shapes)
  try:
    export.write(out, program, contract)
  except OSError as error:
    raise RunError(f"{out}: cannot be written: {error.strerror}") from error
  megabytes = out.stat().st_size / 2**20
  platforms = ", ".join(program.platforms)
  print(f"{out}: step {step}, {megabytes:.1f} MB, for {platforms}")
  for name, array in contract["arrays"].items():
    print(f"  {name}: {array['dtype']} [{' '.join(map(str, array['shape']))}]")
  return 0


def _check_out(out: pathlib.Path) -> None:
  if out.suffix.lower() != ".zip":
    raise InputError("--out", "a name that ends in .zip", repr(str(out)))
  if out.exists():
    raise InputError(out, "no such file", "a file, which is not overwritten")
  folder = out.absolute().parent
  if not folder.is_dir():
    raise InputError("--out", f"an existing folder {folder}", "none")
  if not os.access(folder, os.W_OK | os.X_OK):
    raise InputError("--out", "a folder that can be written", str(folder))
