"""Class biases, which are added to the logits at inference."""

import math
from collections.abc import Mapping, Sequence

from flairhub_jax.errors import InputError
from flairhub_jax.schema import LabelTask

# Task -> class -> bias.
Bias = dict[str, dict[str, float]]

_MAX_BIAS = 1e6  # float32 keeps digits of the logits


def parse(options: Sequence[str], tasks: Mapping[str, LabelTask]) -> Bias:
  """Parses the options `TASK:CLASS=VALUE` of the command line.

  Args:
    options: any number.
    tasks: label tasks of the network by id.

  Raises:
    InputError: wrong format, an unknown task or class, or a repeated class.
  """
  result: Bias = {}
  for option in options:
    name, equals, text = option.rpartition("=")
    task, colon, label = name.partition(":")
    if not (equals and colon):
      raise InputError("--bias", "TASK:CLASS=VALUE", repr(option))
    if task not in tasks:
      raise InputError("--bias", f"a task of {', '.join(tasks)}", repr(task))
    where, classes = f"--bias {task}", tasks[task].class_names
    if label not in classes:
      raise InputError(where, f"a class of {', '.join(classes)}", repr(label))
    if label in result.get(task, {}):
      raise InputError(where, f"{label!r} once", "a repetition")
    result.setdefault(task, {})[label] = _number(f"{where}:{label}", text)
  return result


def _number(where: str, text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not abs(value) <= _MAX_BIAS:  # also refuses NaN
    raise InputError(where, f"a number up to {_MAX_BIAS:g}", repr(text))
  return value


def by_class(
  bias: Bias, tasks: Mapping[str, LabelTask]
) -> tuple[tuple[str, tuple[float, ...]], ...]:
  """Converts biases to the format of `Segmenter.class_bias`."""
  return tuple(
    (task, tuple(own.get(name, 0.0) for name in tasks[task].class_names))
    for task, own in sorted(bias.items())
  )


def describe(bias: Bias, task: str) -> str:
  """Returns a note on the bias of a task, for the description of a map."""
  own = bias.get(task, {})
  listed = ", ".join(f"{name} {value:+g}" for name, value in own.items())
  return f"; bias of {listed}" if own else ""
