"""Configurations: from a Python file and overrides, to JSON and back."""

import importlib.util
import json
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from flairhub_jax.errors import InputError

# Published ids hold a hyphen, which the override syntax takes for a minus.
_HYPHENATED = re.compile(r"\.([A-Za-z0-9_]+-[A-Za-z0-9_-]+)(?=[.=]|$)")

# What Python raises where the file of a sweep is at fault.
_FAULTS_OF_A_FILE = (
  AttributeError,
  ImportError,
  LookupError,
  NameError,
  SyntaxError,
  TypeError,
  ValueError,
)


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
  argv = ["flairhub train", f"--config={file}{colon}{argument}", *overrides]
  return _parse(config_flags.DEFINE_config_file, ("config",), argv, file)


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
    where: the file it came from, for complaints.

  Raises:
    InputError: an unknown or mistyped field.
  """
  argv = ["flairhub", *overrides]
  return _parse(
    config_flags.DEFINE_config_dict, ("config", config), argv, where
  )


def _parse(
  define: Callable[..., flags.FlagHolder],
  definition: tuple[Any, ...],
  argv: Sequence[str],
  where: str | os.PathLike,
) -> ml_collections.ConfigDict:
  argv = [_bracket_hyphens(word) for word in argv]
  values = flags.FlagValues()
  try:
    holder = define(
      *definition, flag_values=values, lock_config=True, sys_argv=argv
    )
    surplus = values(argv)[1:]
    config = holder.value
  except (flags.Error, AttributeError, KeyError, ValueError) as error:
    raise InputError(
      where, "fields of this configuration", _one_line(error)
    ) from error
  if surplus:
    raise InputError("command line", "flags only", " ".join(surplus))
  return config


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
  spec = importlib.util.spec_from_file_location("sweep_config", file)
  if spec is None:
    raise InputError("--config", "a Python file with `get_runs`", repr(file))
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    if not hasattr(module, "get_runs"):
      raise InputError(file, "`get_runs`", "none")
    runs = module.get_runs(*([argument] if colon else []))
    runs = [(name, config) for name, config in runs]
  except InputError:
    raise
  except _FAULTS_OF_A_FILE as error:
    raise InputError(
      file,
      "a sweep that Python reads",
      f"{type(error).__name__}: {' '.join(str(error).split())}",
    ) from error
  for name, config in runs:
    if not isinstance(config, ml_collections.ConfigDict):
      raise InputError(f"{file}, {name}", "a ConfigDict", type(config).__name__)
  return [
    (name, apply_overrides(config, overrides, where=f"{file}, run {name}"))
    for name, config in runs
  ]


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
    return f"{lines[0]} {lines[-1]}"  # the frames between are ours, not theirs
  return " ".join(lines).replace("\\n", " ").replace("\\'", "'")


def to_json(config: ml_collections.ConfigDict) -> str:
  """Returns the resolved configuration as indented JSON."""
  return json.dumps(json.loads(config.to_json_best_effort()), indent=2) + "\n"


def from_json(text: str) -> ml_collections.ConfigDict:
  """Rebuilds a locked configuration from `to_json`; lists become tuples."""
  return ml_collections.ConfigDict(_current(_tuples(json.loads(text)))).lock()


def _current(fields: Any) -> Any:
  """Fields of an earlier version's file as they are told now."""
  if isinstance(fields, dict) and isinstance(fields.get("model"), dict):
    fields = {"matmul_precision": "default", "deterministic": False} | fields
    remat = fields["model"].get("remat")
    if isinstance(remat, bool):
      fields["model"] |= {"remat": "stage" if remat else "none"}
  return fields


def _tuples(node: Any) -> Any:
  if isinstance(node, dict):
    return {key: _tuples(value) for key, value in node.items()}
  if isinstance(node, list):
    return tuple(_tuples(value) for value in node)
  return node


def load_json(path: str | os.PathLike) -> ml_collections.ConfigDict:
  """Reads a configuration that a run left.

  Raises:
    InputError: the file is missing or holds no configuration.
  """
  try:
    with open(path, encoding="utf-8") as file:
      return from_json(file.read())
  except OSError as error:
    raise InputError(path, "the configuration of a run", error) from error
  except (ValueError, TypeError) as error:
    raise InputError(path, "a configuration in JSON", error) from error


def differences(
  old: ml_collections.ConfigDict, new: ml_collections.ConfigDict
) -> list[str]:
  """Lists the fields in which two configurations differ, a line each."""
  flat_old, flat_new = (
    _flatten(json.loads(c.to_json_best_effort())) for c in (old, new)
  )
  absent = "nothing"
  return [
    f"config.{name}: {flat_old.get(name, absent)!r} in the run,"
    f" {flat_new.get(name, absent)!r} given"
    for name in sorted(flat_old.keys() | flat_new.keys())
    if flat_old.get(name, absent) != flat_new.get(name, absent)
  ]


def unknown_fields(
  config: ml_collections.ConfigDict, known: ml_collections.ConfigDict
) -> list[str]:
  """Lists the fields of `config` that `known` does not have."""
  there, here = (
    _flatten(json.loads(c.to_json_best_effort())) for c in (config, known)
  )
  return [f"config.{name}" for name in sorted(there.keys() - here.keys())]


def varying_fields(
  configs: Sequence[ml_collections.ConfigDict],
) -> list[dict[str, Any]]:
  """Returns, for each configuration, the fields that are not as in the rest."""
  flat = [_flatten(json.loads(c.to_json_best_effort())) for c in configs]
  return [
    {
      name: value
      for name, value in fields.items()
      if any(name not in other or other[name] != value for other in flat)
    }
    for fields in flat
  ]


def _flatten(node: Any, prefix: str = "") -> dict[str, Any]:
  if not isinstance(node, dict):
    return {prefix: node}
  flat = {}
  for key, value in node.items():
    flat |= _flatten(value, f"{prefix}.{key}" if prefix else key)
  return flat
