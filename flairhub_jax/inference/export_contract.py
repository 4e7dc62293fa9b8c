"""What an exported program takes and returns, for its users, as JSON."""

from collections.abc import Mapping
from typing import Any

import jax

from flairhub_jax import contract
from flairhub_jax.models import build


def describe(
  config: Any, shapes: Mapping[str, Any], *, origin: Mapping[str, Any]
) -> dict[str, Any]:
  """Describes arrays, sensors and classes of a network.

  Args:
    config: of the run.
    shapes: of the batch that the program takes; names of axes are symbolic.
    origin: identity of run and weights.

  Returns:
    `arrays`: `<part>/<sensor>` of the batch -> shape and type; `probabilities`:
    those of the result by task; `sensors` and `tasks`: see `contract.Contract`.
  """
  height, width = build.logits_size(config)
  own = contract.of_run(config)
  probabilities = {
    name: {
      "shape": ["b", height, width, len(task.classes)],
      "dtype": "float32",
    }
    for name, task in own.tasks.items()
  }
  return {
    "format": 1,
    "origin": dict(origin),
    "arrays": _arrays(shapes),
    "probabilities": probabilities,
    **own.to_json(),
    "reference_date": config.data.reference_date,
    "notes": {
      "inputs": "values as stored; the program chooses bands and normalises",
      "dates": "days from the reference date of the acquisition year",
      "valid": "false for dates that pad a series",
      "present": "false for patches that lack a sensor",
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
