"""Cost of a configuration: parameters, FLOPs, training hours."""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from flairhub_jax import atomic, run_directory
from flairhub_jax.models import summary
from flairhub_jax.studies import runs, scores
from flairhub_jax.studies.configurations import Configuration
from flairhub_jax.weights import reference_only

# A backward pass costs about two forward passes: the gradients with respect to
# the weights, and those with respect to the inputs.
_PASSES_PER_STEP = 3


def count(rows: Sequence[Configuration], cache: pathlib.Path) -> pd.DataFrame:
  """Counts parameters and FLOPs, and reads the training times.

  Args:
    rows: the configurations.
    cache: JSON file of the counts, each of which takes many seconds.

  Returns:
    By `configuration`: `parameters` and `parameters_without_fusion`, counted as
    in the reference; `forward_gflop_per_patch` without auxiliary decoders;
    `training_pflop` of all steps, with auxiliary decoders, NaN if the number of
    steps is unknown; and `scores.STATISTICS` of the training `hours` over
    seeds.
  """
  records = []
  for row in rows:
    network, train = _network(row.config, cache), row.config.train
    patches = (train.num_steps or float("nan")) * row.config.data.batch_size
    flops = _PASSES_PER_STEP * network["training_forward_flops"] * patches
    records.append(
      {
        "configuration": row.name,
        "parameters": network["num_parameters"],
        "parameters_without_fusion": network["num_parameters_published"],
        "forward_gflop_per_patch": network["forward_flops"] / 1e9,
        "training_pflop": flops / 1e15,
      }
    )
  costs = pd.DataFrame(records).set_index("configuration")
  hours = pd.DataFrame(
    [(row.name, training_hours(r)) for row in rows for r in row.runs.values()],
    columns=["configuration", "value"],
  ).astype({"value": float})
  hours = scores.summarise(hours, ["configuration"]).set_index("configuration")
  return costs.join(hours[scores.STATISTICS].add_prefix("hours_"))


def training_hours(run: runs.Run) -> float | None:
  """Sums the time of the training steps, from the patches per second.

  It includes the compilation before step 1 and excludes validation.
  """
  seconds, last = 0.0, 0
  for record in run.records:
    if record["kind"] == "train" and "patches_per_second" in record:
      num_patches = (record["step"] - last) * run.config.data.batch_size
      seconds += num_patches / record["patches_per_second"]
      last = record["step"]
  return seconds / 3600 if last else None


def _network(config: Any, cache: pathlib.Path) -> Mapping[str, Any]:
  key = _network_key(config)
  networks = run_directory.read_json(cache) if cache.exists() else {}
  if key not in networks:
    counts = summary.summarise(config)
    unused = reference_only.of_config(config)
    networks[key] = {
      "num_parameters": counts.num_parameters,
      "num_parameters_published": counts.num_parameters_without_fusion
      + reference_only.count(unused, with_fusion=False),
      "forward_flops": counts.flops,
      "training_forward_flops": sum(part.flops for part in counts.parts),
    }
    atomic.write_text(cache, json.dumps(networks, indent=2) + "\n")
  return networks[key]


def _network_key(config: Any) -> str:
  """Digest of the fields on which the counts depend."""
  relevant = {
    name: value
    for name, value in runs.relevant_fields(config).items()
    if name.startswith(("model.", "fusion.", "inputs."))
    or name in ("data.modalities", "data.tasks")
    if not name.startswith("fusion.modality_dropout.")
  }
  return hashlib.sha256(json.dumps(relevant).encode()).hexdigest()[:16]
