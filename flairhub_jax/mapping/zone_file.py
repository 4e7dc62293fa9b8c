"""Options of a map in a YAML file, which complete those of the command line.

Keys are the flags without their hyphens: `input`, `assume-gsd`. Flags of
sensors take a mapping `ID: value`. What the command line says counts.
"""

import argparse
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.mapping import remote

# Flags of which the command line and the file may have one only.
_ALTERNATIVES = (("overlap", "margin"),)
# Metavariables of flags that name files.
_FILES = re.compile(r"PATH|FILE|RUN|DIR|\.tif")


def merge(
  args: argparse.Namespace,
  content: Mapping[str, Any],
  parser: argparse.ArgumentParser,
  *,
  where: pathlib.Path,
) -> argparse.Namespace:
  """Completes the options of a command by those of a file.

  Args:
    args: of the command line; an option with its default counts as absent.
    content: flag without its first hyphens -> value; null counts as absent.
    parser: of the command.
    where: the file; relative paths are relative to its folder.

  Raises:
    InputErrors: unknown keys and values of another type, a line each.
  """
  actions = {
    action.option_strings[-1].removeprefix("--"): action
    for action in parser._actions
    if action.option_strings and action.dest not in ("help", "config")
  }
  values, problems = {}, []
  for key, value in content.items():
    name = key.replace("_", "-")
    if name not in actions:
      known = ", ".join(actions)
      problems.append(str(InputError(where, f"a key of {known}", repr(key))))
      continue
    if value is None:
      continue
    try:
      action = actions[name]
      values[action.dest] = _value(action, value, where)
    except InputError as error:
      problems.append(str(error))
  if problems:
    raise InputErrors(problems)
  given = vars(args)
  for pair in _ALTERNATIVES:
    if any(given.get(name) is not None for name in pair):
      values = {k: v for k, v in values.items() if k not in pair}
    elif all(name in values for name in pair):
      raise InputError(where, f"one of {' and '.join(pair)}", "both")
  merged = dict(given)
  for name, value in values.items():
    if given[name] == parser.get_default(name):
      merged[name] = value
    elif isinstance(value, list):
      merged[name] = _union(given[name], value)
  return argparse.Namespace(**merged)


def _union(words: Sequence[Any], others: Sequence[Any]) -> list[Any]:
  """Entries of the command line, and those of the file for other sensors."""
  if not all(isinstance(x, str) and "=" in x for x in (*words, *others)):
    return list(words)
  ids = {word.partition("=")[0] for word in words}
  rest = [other for other in others if other.partition("=")[0] not in ids]
  return [*words, *rest]


def _value(action: argparse.Action, value: Any, where: pathlib.Path) -> Any:
  """The value of an option as the parser would give it."""
  name = f"{where}: {action.option_strings[-1].removeprefix('--')}"
  if action.nargs == 0:
    if not isinstance(value, bool):
      raise InputError(name, "true or false", repr(value))
    return value
  if isinstance(action.nargs, int):
    if not isinstance(value, list) or len(value) != action.nargs:
      raise InputError(name, f"a list of {action.nargs}", repr(value))
    return [_single(action, each, name, where) for each in value]
  if action.nargs == "+":
    values = value if isinstance(value, list) else [value]
    read = _text if any(map(_is_number, values)) else _single
    return [read(action, each, name, where) for each in values]
  if isinstance(action, argparse._AppendAction):
    return _entries(action, value, name, where)
  return _single(action, value, name, where)


def _entries(action, value, name: str, where: pathlib.Path) -> list[str]:
  """Values of a flag that comes once for each sensor."""
  if isinstance(value, Mapping):
    return [
      f"{sensor}={_text(action, each, f'{name}.{sensor}', where)}"
      for sensor, each in value.items()
    ]
  if isinstance(value, list) and all(isinstance(x, str) for x in value):
    return [_text(action, each, name, where) for each in value]
  return [_text(action, value, name, where)]


def _text(action, value: Any, name: str, where: pathlib.Path) -> str:
  """A word of the command line; lists of numbers are joined by commas."""
  values = value if isinstance(value, list) else [value]
  is_number = [_is_number(each) for each in values]
  if all(is_number) and values:
    return ",".join(map(str, values))
  if not isinstance(value, str):
    raise InputError(name, "text, or numbers", repr(value))
  return _path(action, value, where)


def _single(action, value: Any, name: str, where: pathlib.Path) -> Any:
  if action.type in (int, float):
    is_right = isinstance(value, int) if action.type is int else True
    if not (_is_number(value) and is_right):
      kind = "a whole number" if action.type is int else "a number"
      raise InputError(name, kind, repr(value))
    return action.type(value)
  if not isinstance(value, str) or not value:
    raise InputError(name, "text", repr(value))
  if action.choices is not None and value not in action.choices:
    known = ", ".join(map(str, action.choices))
    raise InputError(name, f"one of {known}", repr(value))
  return _path(action, value, where)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _path(action: argparse.Action, text: str, where: pathlib.Path) -> str:
  """A path, perhaps after `ID=`, relative to the folder of the file."""
  metavar = str(action.metavar)
  if not _FILES.search(metavar):
    return text
  name, equals, path = text.partition("=")
  if "=" not in metavar or not equals or os.sep in name:
    name, equals, path = "", "", text
  if not remote.is_remote(path):
    path = str(where.parent / os.path.expanduser(path))
  return name + equals + path
