"""Class biases: what is added to the logits of a class at prediction."""

import math
from collections.abc import Mapping, Sequence

from flairhub_jax.errors import InputError
from flairhub_jax.schema import LabelTask

# Task -> class -> what is added to its logits.
Bias = dict[str, dict[str, float]]

_LARGEST = 1e6  # logits plus a bias keep digits in float32


def parse(words: Sequence[str], tasks: Mapping[str, LabelTask]) -> Bias:
  """Reads the words `TASK:CLASS=VALUE` of the command line.

  Args:
    words: any number.
    tasks: label tasks of the network by id.

  Raises:
    InputError: another form, an unknown task or class, or a class twice.
  """
  result: Bias = {}
  for word in words:
    name, equals, text = word.rpartition("=")
    task, colon, label = name.partition(":")
    if not (equals and colon):
      raise InputError("--bias", "TASK:CLASS=VALUE", repr(word))
    if task not in tasks:
      raise InputError("--bias", f"a task of {', '.join(tasks)}", repr(task))
    where, known = f"--bias {task}", tasks[task].class_names
    if label not in known:
      raise InputError(where, f"a class of {', '.join(known)}", repr(label))
    if label in result.get(task, {}):
      raise InputError(where, f"{label!r} once", "it twice")
    result.setdefault(task, {})[label] = _number(f"{where}:{label}", text)
  return result


def _number(where: str, text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not abs(value) <= _LARGEST:  # NaN neither
    raise InputError(where, f"a number up to {_LARGEST:g}", repr(text))
  return value


def by_class(
  bias: Bias, tasks: Mapping[str, LabelTask]
) -> tuple[tuple[str, tuple[float, ...]], ...]:
  """Returns what `Segmenter.class_bias` takes: a number per class."""
  return tuple(
    (task, tuple(own.get(name, 0.0) for name in tasks[task].class_names))
    for task, own in sorted(bias.items())
  )


def describe(bias: Bias, task: str) -> str:
  """The bias of a task for the description of a map; "" without one."""
  own = bias.get(task, {})
  listed = ", ".join(f"{name} {value:+g}" for name, value in own.items())
  return f"; bias of {listed}" if own else ""
