"""What a configuration costs: parameters, operations, hours."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from flairhub_jax import atomic, run_directory
from flairhub_jax.modalities import MODALITIES
from flairhub_jax.models import summary
from flairhub_jax.studies import runs, statistics
from flairhub_jax.studies.configurations import Configuration

# A backward pass is about two forward passes: one for the gradients of the
# weights, one for those of the inputs.
_PASSES_PER_STEP = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
  """What a configuration costs.

  Attributes:
    num_parameters: all of them.
    num_parameters_published: without fusion, as the reference counts.
    num_dates: lengths of the series that operations were counted with.
    forward_flops: operations of one patch, without auxiliary decoders.
    training_flops: operations of the whole training, with them.
    hours: of the training steps, by the clock of the machine that took them;
      None where the runs tell none.
  """

  num_parameters: int
  num_parameters_published: int
  num_dates: Mapping[str, int]
  forward_flops: float
  training_flops: float | None
  hours: statistics.Estimate | None


def count(row: Configuration, memory: pathlib.Path) -> Cost:
  """Counts a configuration's network and reads what its runs took.

  Args:
    row: the configuration.
    memory: file that keeps the counts of networks: one takes many seconds.
  """
  config = row.config
  network = _network(config, memory)
  num_steps = config.train.num_steps
  hours = [
    value
    for value in (training_hours(run) for run in row.runs.values())
    if value is not None
  ]
  patches = None if num_steps is None else num_steps * config.data.batch_size
  return Cost(
    num_parameters=network["num_parameters"],
    num_parameters_published=network["num_parameters_published"],
    num_dates={
      name: config.inputs[name].num_dates
      for name in config.data.modalities
      if MODALITIES[name].is_series
    },
    forward_flops=network["forward_flops"],
    training_flops=None
    if patches is None
    else _PASSES_PER_STEP * network["training_forward_flops"] * patches,
    hours=statistics.estimate(hours) if hours else None,
  )


def training_hours(run: runs.Run) -> float | None:
  """Sums the time of the training steps, from the patches per second.

  Validation is not in it, the compilation before the first step is.
  """
  seconds, last = 0.0, 0
  for record in run.records:
    if record["kind"] == "train" and "patches_per_second" in record:
      num_patches = (record["step"] - last) * run.config.data.batch_size
      seconds += num_patches / record["patches_per_second"]
      last = record["step"]
  return seconds / 3600 if last else None


def _network(config: Any, memory: pathlib.Path) -> Mapping[str, Any]:
  key = _network_key(config)
  known = _read(memory)
  if key not in known:
    found = summary.summarise(config)
    known[key] = {
      "num_parameters": found.num_parameters,
      "num_parameters_published": found.num_parameters_without_fusion,
      "forward_flops": found.flops,
      "training_forward_flops": sum(part.flops for part in found.parts),
    }
    atomic.write_text(memory, json.dumps(known, indent=2) + "\n")
  return known[key]


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


def _read(memory: pathlib.Path) -> dict[str, Any]:
  return run_directory.read_json(memory) if memory.exists() else {}
