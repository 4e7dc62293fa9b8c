"""Describe a network: parameters, FLOPs and memory of its parts."""

import argparse
from typing import Any

from flairhub_jax import config_file, run_schema, text_table
from flairhub_jax.data import records
from flairhub_jax.models import summary
from flairhub_jax.training.resolve import resolve
from flairhub_jax.weights import reference_only


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags; `--config.…` overrides are read by `run`."""
  parser.add_argument(
    "--config",
    required=True,
    metavar="FILE.py[:ARG]",
    help="configuration; with --config.data.path, patch sizes and lengths of"
    " series are those of the data",
  )


def run(args: argparse.Namespace) -> int:
  """Prints a table of the network's parts."""
  config = config_file.load_config_file(args.config, args.overrides)
  if config.data.path:
    dataset = records.load_dataset(config.data.path)
    run_schema.check(config, dataset, tasks=config.data.tasks)
    config = resolve(config, dataset)
  unused = reference_only.of_config(config)
  print(format_table(summary.summarise(config), unused))
  return 0


def format_table(network: summary.Summary, unused: Any) -> str:
  """Formats the parts, one line each, and their totals.

  Args:
    network: the parts.
    unused: from `reference_only.describe`.
  """
  headers = ["", "architecture", "role", "parameters", "GFLOP"]
  rows = [
    (
      part.name,
      part.architecture,
      part.role,
      f"{part.num_parameters:,}",
      f"{part.flops / 1e9:.1f}" if part.flops else "",
    )
    for part in network.parts
  ]
  total = f"{network.num_parameters:,}", f"{network.flops / 1e9:.1f}"
  rows += [text_table.RULE, ("total", "", "", *total)]
  state = network.state_bytes / 2**30
  activations = network.activation_bytes / 2**30
  dates = "".join(
    f", {number} dates of {name}" for name, number in network.num_dates.items()
  )
  published = network.num_parameters_without_fusion
  published += reference_only.count(unused, with_fusion=False)
  lines = [
    text_table.format_table(headers, rows, text=3),
    "",
    f"In the reference's files, without fusion: {published / 1e6:.3f} M.",
    f"GFLOP: forward pass over one patch{dates}, without auxiliary decoders.",
    f"Training in float32: {state:.2f} GiB for parameters, gradients and"
    f" AdamW's moments; about {activations:.2f} GiB of activations per patch.",
  ]
  return "\n".join(lines)
