"""Describe the parts of a network: parameters, FLOPs, memory."""

import argparse
from typing import Any

from flairhub_jax import configuration
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
    help="configuration; with --config.data.path sizes and lengths of series"
    " are those of the data",
  )


def run(args: argparse.Namespace) -> int:
  """Prints a table of the network's parts."""
  config = configuration.load_config_file(args.config, args.overrides)
  if config.data.path:
    config = resolve(config, records.load_dataset(config.data.path))
  unused = reference_only.of_config(config)
  print(format_table(summary.summarise(config), unused))
  return 0


def format_table(found: summary.Summary, unused: Any) -> str:
  """Formats the parts, a line each, and the totals below them.

  Args:
    found: the parts.
    unused: of `reference_only.describe`.
  """
  rows = [("", "architecture", "role", "parameters", "GFLOP")]
  rows += [
    (
      part.name,
      part.architecture,
      part.role,
      f"{part.num_parameters:,}",
      f"{part.flops / 1e9:.1f}" if part.flops else "",
    )
    for part in found.parts
  ]
  total = found.num_parameters
  rows.append(("total", "", "", f"{total:,}", f"{found.flops / 1e9:.1f}"))
  widths = [max(len(row[i]) for row in rows) for i in range(5)]
  lines = [
    "  ".join(
      cell.ljust(width) if i < 3 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
  rule = "-" * max(map(len, lines))
  lines[1:1] = [rule]
  lines[-1:-1] = [rule]
  state, activations = found.state_bytes / 2**30, found.activation_bytes / 2**30
  dates = "".join(
    f", {number} dates of {name}" for name, number in found.num_dates.items()
  )
  published = found.num_parameters_without_fusion
  published += reference_only.count(unused, with_fusion=False)
  lines += [
    "",
    f"In the reference's files, without fusion: {published / 1e6:.3f} M.",
    f"GFLOP: forward pass over one patch{dates}, without auxiliary decoders.",
    f"Training in float32: {state:.2f} GiB for parameters, gradients and"
    f" AdamW's moments; about {activations:.2f} GiB of activations per patch.",
  ]
  return "\n".join(lines)
