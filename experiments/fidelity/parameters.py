"""Counts every published network and compares with the published table.

    python -m experiments.fidelity.parameters OUT

Writes `parameters.jsonl`: per experiment of `configs/benchmark.py`, millions
of parameters as the reference prints them (without fusion) and in a file.
"""

import json
import pathlib
import sys

from flairhub_jax.configs import benchmark
from flairhub_jax.models import summary
from flairhub_jax.weights import reference_only

# README of the reference, column PARA, in millions.
PUBLISHED = {
  "LC-A": 89.4,
  "LC-B": 181.4,
  "LC-C": 270.6,
  "LC-D": 93.9,
  "LC-E": 95.8,
  "LC-F": 97.7,
  "LC-G": 0.9,
  "LC-H": 1.8,
  "LC-I": 89.2,
  "LC-J": 89.4,
  "LC-K": 181.4,
  "LC-L": 276.4,
  "LC-ALL": 365.8,
  "LPIS-A": 89.4,
  "LPIS-B": 181.2,
  "LPIS-C": 93.9,
  "LPIS-D": 97.7,
  "LPIS-E": 183.1,
  "LPIS-F": 0.9,
  "LPIS-G": 1.8,
  "LPIS-H": 2.8,
  "LPIS-I": 97.5,
  "LPIS-J": 186.9,
  "LPIS-K": 89.2,
}


def count(experiment: str) -> dict:
  """Parameters of one experiment."""
  config = benchmark.get_config(experiment)
  network = summary.summarise(config, num_dates=1)
  unused = reference_only.of_config(config)
  without_fusion = network.num_parameters_without_fusion
  return {
    "experiment": experiment,
    "modalities": list(config.data.modalities),
    "published_millions": PUBLISHED[experiment],
    "without_fusion": without_fusion
    + reference_only.count(unused, with_fusion=False),
    "in_file": network.num_parameters + reference_only.count(unused),
  }


def main() -> None:
  """Counts all of them."""
  lines = []
  for experiment in benchmark.EXPERIMENTS:
    lines.append(json.dumps(count(experiment)))
    print(lines[-1], flush=True)
  path = pathlib.Path(sys.argv[1]) / "parameters.jsonl"
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
  main()
