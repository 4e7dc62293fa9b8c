"""Configurations: from a Python file and overrides, to JSON and back."""

import importlib.util
import json
import os
import pathlib
import re
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from flairhub_jax import fields
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError, InputErrors

# Published ids hold a hyphen, which the override syntax takes for a minus.
_HYPHENATED = re.compile(r"\.([A-Za-z0-9_]+-[A-Za-z0-9_-]+)(?=[.=]|$)")

# A configuration in JSON has a few kilobytes.
_MOST_BYTES = 2**24


def load_config_file(
  path: str, overrides: Sequence[str] = ()
) -> ml_collections.ConfigDict:
  """Runs `get_config` of a Python file and applies overrides.

  Args:
    path: `FILE.py`, or `FILE.py:ARG` where its `get_config` takes an argument;
      `NAME` or `NAME:ARG`, a file of `configs/` that is installed with the
      package; or `FILE.json`, a configuration that a run or a sweep wrote.
    overrides: `--config.section.field=value`, any number.

  Returns:
    The configuration, locked.

  Raises:
    InputError: a missing file, an unknown or mistyped field, a wrong argument.
  """
  file, colon, argument = _find_file(path)
  if file.endswith(".json"):
    return apply_overrides(load_json(file), overrides, where=file)
  config = _call(file, "get_config", [argument] if colon else [])
  if not isinstance(config, ml_collections.ConfigDict):
    raise InputError(
      f"{file}, get_config", "a ConfigDict", type(config).__name__
    )
  return apply_overrides(config, overrides, where=file)


def _find_file(path: str) -> tuple[str, str, str]:
  """Splits `FILE:ARG`; a plain name is a file of `flairhub_jax.configs`.

  Raises:
    InputError: there is no such file.
  """
  file, colon, argument = path.partition(":")
  names = shipped_names()
  if file in names:
    file = os.path.join(_shipped_folder(), f"{file}.py")
  if not os.path.isfile(file):
    raise InputError(
      "--config", f"a Python file, or one of {', '.join(names)}", repr(file)
    )
  return file, colon, argument


def shipped_names() -> list[str]:
  """Names of the configurations that are installed with the package."""
  files = pathlib.Path(_shipped_folder()).glob("[a-z]*.py")
  return sorted(path.stem for path in files)


def _shipped_folder() -> str:
  spec = importlib.util.find_spec("flairhub_jax.configs")
  return spec.submodule_search_locations[0]


def apply_overrides(
  config: ml_collections.ConfigDict,
  overrides: Sequence[str],
  *,
  where: str | os.PathLike,
) -> ml_collections.ConfigDict:
  """Applies `--config.section.field=value` to a configuration, and locks it.

  Args:
    config: changed in place.
    overrides: any number.
    where: the file it came from, for error messages.

  Raises:
    InputError: an unknown or mistyped field.
    InputErrors: values out of their range.
  """
  none, words = _split_none(overrides)
  argv = ["flairhub", *map(_bracket_hyphens, words)]
  values = flags.FlagValues()
  try:
    holder = config_flags.DEFINE_config_dict(
      "config", config, flag_values=values, lock_config=True, sys_argv=argv
    )
    surplus = values(argv)[1:]
    config = holder.value
  except (flags.Error, AttributeError, KeyError, ValueError) as error:
    raise InputError(
      where, "fields of this configuration", _one_line(error)
    ) from error
  if surplus:
    raise InputError("command line", "flags only", " ".join(surplus))
  with config.unlocked():
    config.update_from_flattened_dict(dict.fromkeys(none))
  given = config.copy_and_resolve_references().to_dict()
  return complete(given, where=where)


def _updated(given: Mapping[str, Any]) -> Mapping[str, Any]:
  """Renames fields and values of the files of earlier versions."""
  given = dict(given)
  if "labels" in given and "tasks" not in given:
    given["tasks"] = given.pop("labels")
  model = given.get("model")
  if isinstance(model, dict) and isinstance(model.get("remat"), bool):
    remat = "stage" if model["remat"] else "none"
    given["model"] = {**model, "remat": remat}
  return given


def _split_none(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
  """Paths of the fields that are set to None, and the other overrides.

  The flags of ml_collections read `None` as a number or as a word.
  """
  none, words = {}, []
  for word in overrides:
    name, _, value = word.partition("=")
    path = name.removeprefix("--config.")
    rule = fields.rule_of(path)
    if value == "None" and rule is not None and rule.may_be_none:
      none[path] = None
    else:
      none.pop(path, None)  # what comes last counts
      words.append(word)
  return list(none), words


def complete(
  given: Mapping[str, Any], *, where: str | os.PathLike = ""
) -> ml_collections.ConfigDict:
  """Checks every field, fills in those that are missing, and locks.

  A missing field has its default: a configuration that an earlier version
  wrote lacks what was added since. `~` in paths is expanded here.

  Args:
    given: nested dictionaries.
    where: the file, which begins each error line, if any.

  Raises:
    InputErrors: unknown fields, and values out of their range; all of them.
  """
  given = _updated(given)
  problems = fields.faults(given)
  if problems:
    start = f"{where}: " if where else ""
    raise InputErrors([start + line for line in problems])
  config = base.get_config()
  for modality, row in config.inputs.items():
    # Statistics are by band: those given replace all others.
    for name in ("mean", "std"):
      if name in given.get("inputs", {}).get(modality, {}):
        row[name] = ml_collections.ConfigDict()
  for path, value in fields.flatten(given).items():
    if isinstance(value, list):
      value = tuple(value)
    if fields.rule_of(path).is_path:
      value = os.path.expanduser(str(value))
    section, _, name = path.rpartition(".")
    (config[section] if section else config)[name] = value
  return config.lock()


def load_runs(
  path: str, overrides: Sequence[str] = ()
) -> list[tuple[str, ml_collections.ConfigDict]]:
  """Runs `get_runs` of a Python file and applies overrides to every run.

  Args:
    path: `FILE.py` or a NAME, as of `load_config_file`, and `:ARG` where its
      `get_runs` takes an argument.
    overrides: `--config.section.field=value`, any number.

  Returns:
    Name and configuration of each run, locked, in the order of the file.

  Raises:
    InputError: no file, no `get_runs`, a file that Python refuses, or a field
      that the configurations do not have.
  """
  file, colon, argument = _find_file(path)
  runs = _call(file, "get_runs", [argument] if colon else [])
  try:
    runs = [(name, config) for name, config in runs]
  except (TypeError, ValueError) as error:
    raise InputError(
      f"{file}, get_runs", "pairs of a name and a ConfigDict", error
    ) from error
  for name, config in runs:
    if not isinstance(config, ml_collections.ConfigDict):
      raise InputError(f"{file}, {name}", "a ConfigDict", type(config).__name__)
  return [
    (name, apply_overrides(config, overrides, where=f"{file}, run {name}"))
    for name, config in runs
  ]


def _call(file: str, function: str, arguments: Sequence[str]) -> Any:
  """Runs a Python file and calls one function of it."""
  spec = importlib.util.spec_from_file_location("configuration_file", file)
  if spec is None:
    raise InputError("--config", f"a Python file with `{function}`", repr(file))
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    if not hasattr(module, function):
      raise InputError(file, f"`{function}`", "none")
    return getattr(module, function)(*arguments)
  except InputError:
    raise
  except Exception as error:
    # The code is the user's: any exception is a fault of the file.
    lines = [
      frame.lineno
      for frame in traceback.extract_tb(error.__traceback__)
      if frame.filename == file
    ]
    raise InputError(
      f"{file}, line {lines[-1]}" if lines else file,
      "a configuration that Python reads",
      f"{type(error).__name__}: {' '.join(str(error).split())}",
    ) from error


def _bracket_hyphens(word: str) -> str:
  name, equals, value = word.partition("=")
  if not name.startswith("--config."):
    return word
  return _HYPHENATED.sub(r"['\1']", name) + equals + value


def _one_line(error: Exception) -> str:
  text = str(error.args[0] if error.args else error)
  lines = [line.strip().strip("'\"") for line in text.splitlines()]
  lines = [line for line in lines if line and not line.startswith("Traceback")]
  if isinstance(error, flags.IllegalFlagValueError) and len(lines) > 2:
    return f"{lines[0]} {lines[-1]}"  # without our frames between them
  return " ".join(lines).replace("\\n", " ").replace("\\'", "'")


def to_json(config: ml_collections.ConfigDict) -> str:
  """Returns the resolved configuration as indented JSON."""
  return json.dumps(json.loads(config.to_json_best_effort()), indent=2) + "\n"


def from_json(text: str, *, where: str = "") -> ml_collections.ConfigDict:
  """Rebuilds a locked configuration from `to_json`; lists become tuples.

  Raises:
    InputErrors: see `complete`.
    ValueError: it is no JSON object.
  """
  given = json.loads(text)
  if not isinstance(given, dict):
    raise ValueError(f"a {type(given).__name__}")
  return complete(given, where=where)


def load_json(path: str | os.PathLike) -> ml_collections.ConfigDict:
  """Reads the configuration of a run; see `complete`.

  Raises:
    InputError: the file is missing or holds no configuration.
  """
  try:
    with open(path, encoding="utf-8") as file:
      text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
      raise ValueError(f"more than {_MOST_BYTES} characters")
    return from_json(text, where=str(path))
  except InputError:
    raise
  except OSError as error:
    raise InputError(path, "the configuration of a run", error) from error
  except (ValueError, RecursionError) as error:
    raise InputError(path, "a configuration in JSON", error) from error


def differences(
  old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> list[str]:
  """Lists the fields in which two configurations differ, a line each."""
  flat_old, flat_new = flatten(old), flatten(new)
  absent = "nothing"
  return [
    f"config.{name}: {flat_old.get(name, absent)!r} in the run,"
    f" {flat_new.get(name, absent)!r} given"
    for name in sorted(flat_old.keys() | flat_new.keys())
    if flat_old.get(name, absent) != flat_new.get(name, absent)
  ]


def varying_fields(
  configs: Sequence[ml_collections.ConfigDict],
) -> list[dict[str, Any]]:
  """Returns, for each configuration, the fields that are not as in the rest."""
  flat = [flatten(c) for c in configs]
  return [
    {
      name: value
      for name, value in own.items()
      if any(name not in other or other[name] != value for other in flat)
    }
    for own in flat
  ]


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the values of all fields by their dotted names."""
  return fields.flatten(json.loads(config.to_json_best_effort()))
