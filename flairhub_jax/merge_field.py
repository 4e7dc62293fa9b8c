"""The field `tasks.<task>.merge` of a configuration: merged classes."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flairhub_jax.errors import InputError
from flairhub_jax.schema import Schema

# Its value is a mapping, which the override syntax does not have.
_OVERRIDE = re.compile(r"--config\.tasks\.([^.=]+)\.merge=(.*)", re.DOTALL)


def names(config: Any, task: str) -> dict[str, tuple[str, ...]]:
  """Merged classes of a task: new name -> names, in the order given.

  A ConfigDict comes back sorted by name, except as JSON; the order is that of
  the channels.
  """
  merge = json.loads(config.tasks[task].merge.to_json_best_effort())
  return {
    new: tuple(members) if isinstance(members, list) else members
    for new, members in merge.items()
  }


def as_dict(config: Any) -> dict[str, Any]:
  """Returns a configuration as nested dictionaries, merges in their order."""
  result = config.to_dict()
  for task, settings in result.get("tasks", {}).items():
    if isinstance(settings, dict) and isinstance(settings.get("merge"), dict):
      settings["merge"] = names(config, task)
  return result


def split(
  overrides: Sequence[str],
) -> tuple[dict[str, Any], list[str]]:
  """The merged classes by task, and the other overrides."""
  merges, words = {}, []
  for word in overrides:
    match = _OVERRIDE.fullmatch(word)
    if match is None:
      words.append(word)
      continue
    try:
      merges[match[1]] = ast.literal_eval(match[2])
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
      raise InputError(
        f"--config.tasks.{match[1]}.merge",
        "{'new class': ('class', …), …}",
        repr(match[2][:80]),
      ) from error
  return merges, words


def refuse_dots(given: Mapping[str, Any], *, where: str) -> None:
  """Refuses a new class with a dot, which separates the names of fields.

  Raises:
    InputError: names the class.
  """
  tasks = given.get("tasks")
  for task, settings in tasks.items() if isinstance(tasks, Mapping) else ():
    merge = settings.get("merge") if isinstance(settings, Mapping) else None
    for name in merge if isinstance(merge, Mapping) else ():
      if "." in str(name):
        field = f"config.tasks.{task}.merge"
        raise InputError(
          f"{where}: {field}" if where else field,
          "names of classes without a dot",
          repr(name),
        )


def without_default_weights(
  given: Mapping[str, Any], schema: Schema
) -> dict[str, Any]:
  """Leaves out default weights of classes that are merged.

  A file that sets `merge` alone still has those of the classes before.
  """
  given, tasks = dict(given), given.get("tasks")
  if not isinstance(tasks, Mapping):
    return given
  given["tasks"] = tasks = dict(tasks)
  for name, settings in tasks.items():
    if not isinstance(settings, Mapping) or name not in schema.tasks:
      continue
    default = [float(w) for w in schema.tasks[name].scored]
    weights = settings.get("class_weights")
    is_default = isinstance(weights, (tuple, list)) and list(weights) == default
    if settings.get("merge") and is_default:
      tasks[name] = {k: v for k, v in settings.items() if k != "class_weights"}
  return given
