"""What an exported program takes and returns, for its users, as JSON."""

from collections.abc import Mapping
from typing import Any

import jax

from flairhub_jax import configuration
from flairhub_jax.models import build
from flairhub_jax.models import inputs as inputs_lib


def describe(
  config: Any, shapes: Mapping[str, Any], *, origin: Mapping[str, Any]
) -> dict[str, Any]:
  """Describes arrays, sensors and classes of a network.

  Args:
    config: of the run.
    shapes: of the batch that the program takes; names of axes are symbolic.
    origin: identity of run and weights.

  Returns:
    `arrays`: `<part>/<sensor>` of the batch -> shape and type; `sensors`: bands
    in the order of the arrays, statistics by which the program normalises them,
    GSD; `tasks`: the arrays of probabilities and their classes.
  """
  height, width = build.logits_size(config)
  tasks = {
    name: {
      "shape": ["b", height, width, task.num_classes],
      "dtype": "float32",
      "gsd": task.gsd,
      "classes": [
        {"name": each.name, "colour": each.colour} for each in task.classes
      ],
    }
    for name, task in configuration.label_tasks(config).items()
  }
  return {
    "format": 1,
    "origin": dict(origin),
    "arrays": _arrays(shapes),
    "sensors": _sensors(config),
    "tasks": tasks,
    "reference_date": config.data.reference_date,
    "notes": {
      "inputs": "values as stored; the program chooses bands and normalises",
      "dates": "days from the reference date of the acquisition year",
      "valid": "false for dates that pad a series",
      "present": "false for patches that lack a sensor",
      "tasks": "probabilities of the classes",
    },
  }


def _arrays(shapes):
  """Shape and type of each array of the batch."""
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): {
      "shape": [n if isinstance(n, int) else str(n) for n in leaf.shape],
      "dtype": str(leaf.dtype),
    }
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
  }


def _sensors(config):
  """What the arrays of each sensor hold."""
  sensors = {}
  for spec in inputs_lib.build_inputs(config):
    sensor = config.schema.sensors[spec.modality]
    sensors[sensor.id] = {
      "kind": sensor.kind,
      "axes": "b t h w c" if sensor.is_series else "b h w c",
      "bands": sensor.bands,
      "bands_of_network": spec.bands,
      "derived_bands": sensor.derived_bands,
      "mean": _by_band(spec.bands, spec.mean),
      "std": _by_band(spec.bands, spec.std),
      "unit": sensor.unit,
      "gsd": sensor.gsd,
      "no_data": sensor.no_data,
    }
  return sensors


def _by_band(bands, numbers):
  """One number per band; empty where values are not normalised."""
  return dict(zip(bands, numbers, strict=True)) if numbers else {}
