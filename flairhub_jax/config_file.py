"""Python files of configurations, with overrides of the command line."""

import importlib.util
import os
import pathlib
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from flairhub_jax import configuration, fields, merge_field, schema_file
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError
from flairhub_jax.schema import Schema


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
    return configuration.apply_overrides(
      configuration.load_json(file), overrides, where=file
    )
  config = _call(file, "get_config", [argument] if colon else [])
  if not isinstance(config, ml_collections.ConfigDict):
    raise InputError(
      f"{file}, get_config", "a ConfigDict", type(config).__name__
    )
  config = _of_its_data(config, overrides, where=file)
  return configuration.apply_overrides(config, overrides, where=file)


def _of_its_data(
  config: ml_collections.ConfigDict,
  overrides: Sequence[str],
  *,
  where: str | os.PathLike,
) -> ml_collections.ConfigDict:
  """Gives a configuration the schema of the data set that it names, if any."""
  config = configuration.complete(
    merge_field.as_dict(config.copy_and_resolve_references()), where=where
  )
  flag, folder = "--config.data.path=", config.data.path
  for word in overrides:
    if word.startswith(flag):
      folder = os.path.expanduser(word.removeprefix(flag))
  schema = schema_file.of_dataset(folder) if folder else None
  return config if schema is None else _with_schema(config, schema)


def _with_schema(
  config: ml_collections.ConfigDict, schema: Schema
) -> ml_collections.ConfigDict:
  """Returns a configuration with another schema, locked.

  Fields that differ from the defaults of the former schema keep their values,
  as far as the new schema has their sensors and tasks; all others take the new
  defaults.
  """
  if config.schema == schema:
    return config
  flat = _by_band(fields.flatten(configuration.plain(config)))
  defaults = _by_band(
    fields.flatten(configuration.plain(base.get_config(config.schema)))
  )
  result = base.get_config(schema)
  sections = {"inputs", "tasks", "auxiliary_weight"}
  sections |= {"optim.encoder_rates", "fusion.modality_dropout"}
  for path, value in flat.items():
    if value == defaults.get(path):
      continue
    section, _, name = path.rpartition(".")
    parent, _, row = section.rpartition(".")
    if section in sections and name not in result[section]:
      continue
    if parent in sections and row not in result[parent]:
      continue
    holder = result[section] if section else result
    holder[name] = (
      ml_collections.ConfigDict(value) if isinstance(value, dict) else value
    )
  return result.lock()


def _by_band(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Joins the statistics of a sensor, and the classes of a merge, again."""
  joined: dict[str, Any] = {}
  for path, value in flat.items():
    section, _, name = path.rpartition(".")
    if section.rpartition(".")[2] in ("mean", "std", "merge"):
      joined.setdefault(section, {})[name] = value
    else:
      joined[path] = value
  return joined


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
  result = []
  for name, config in runs:
    where = f"{file}, run {name}"
    config = _of_its_data(config, overrides, where=where)
    result.append(
      (name, configuration.apply_overrides(config, overrides, where=where))
    )
  return result


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
