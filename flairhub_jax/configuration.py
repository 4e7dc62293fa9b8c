"""Configurations: completed and checked, to JSON and back, compared.

`config_file.py` reads them from Python files.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from flairhub_jax import choice, class_merge, fields, merge_field, schema_file
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import LabelTask, Schema

# Published ids hold a hyphen, which the override syntax takes for a minus.
_HYPHENATED = re.compile(r"\.([A-Za-z0-9_]+-[A-Za-z0-9_-]+)(?=[.=]|$)")

# Fields of `config.loss` in earlier versions: now options of one loss.
_LOSS_OPTIONS = {
  "label_smoothing": ("cross_entropy", "label_smoothing"),
  "focal_gamma": ("focal", "gamma"),
}

# A configuration in JSON has a few kilobytes.
_MOST_BYTES = 2**24


def label_tasks(config: Any) -> dict[str, LabelTask]:
  """Label tasks of a configuration by id, with its merged classes.

  Raises:
    InputError: an unknown task, or a merge that does not fit its classes.
  """
  known = config.schema.tasks
  return {
    name: class_merge.merge_classes(
      known[name],
      merge_field.names(config, name),
      where=f"config.tasks.{name}.merge",
    )
    for name in choice.known("config.data.tasks", config.data.tasks, known)
  }


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
  known = fields.rules(config.schema, {})
  merges, words = merge_field.split(overrides)
  none, words = _split_none(words, known)
  argv = ["flairhub", *map(_bracket_hyphens, words)]
  values = flags.FlagValues()
  # A flag writes its default as YAML, which takes a second for a schema.
  schema = config.schema
  with config.unlocked():
    del config.schema
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
    config.schema = schema
    config.update_from_flattened_dict(dict.fromkeys(none))
  given = merge_field.as_dict(config.copy_and_resolve_references())
  for name, merge in merges.items():
    if name not in given["tasks"]:
      known = ", ".join(given["tasks"])
      raise InputError(
        f"--config.tasks.{name}.merge", f"a task of {known}", repr(name)
      )
    settings = given["tasks"][name]
    field = f"--config.tasks.{name}.class_weights="
    if not any(word.startswith(field) for word in words):
      del settings["class_weights"]  # they are of other classes
    settings["merge"] = merge
  return complete(given, where=where)


def _updated(given: Mapping[str, Any]) -> dict[str, Any]:
  """Renames fields and values of the files of earlier versions."""
  given = dict(given)
  if "labels" in given and "tasks" not in given:
    given["tasks"] = given.pop("labels")
  model = given.get("model")
  if isinstance(model, dict) and isinstance(model.get("remat"), bool):
    remat = "stage" if model["remat"] else "none"
    given["model"] = {**model, "remat": remat}
  data = given.get("data")
  if isinstance(data, dict) and isinstance(data.get("augment"), bool):
    names = ("symmetry",) if data["augment"] else ()
    given["data"] = {**data, "augment": names}
  if isinstance(given.get("loss"), dict):
    given["loss"] = _updated_loss(given["loss"])
  return given


def _updated_loss(given: Mapping[str, Any]) -> dict[str, Any]:
  """Turns weights of losses, and options beside them, into sections."""
  sections = {
    name: value if isinstance(value, dict) else {"weight": value}
    for name, value in given.items()
    if name not in _LOSS_OPTIONS
  }
  for old, (name, new) in _LOSS_OPTIONS.items():
    if old in given:
      sections[name] = {new: given[old], **sections.get(name, {})}
  return sections


def _split_none(
  overrides: Sequence[str], rules: Mapping[str, fields.Rule]
) -> tuple[list[str], list[str]]:
  """Paths of the fields that are set to None, and the other overrides.

  The flags of ml_collections read `None` as a number or as a word.
  """
  none, words = {}, []
  for word in overrides:
    name, _, value = word.partition("=")
    path = name.removeprefix("--config.")
    rule = fields.rule_of(path, rules)
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
    InputError: a merged class with a dot in its name.
    InputErrors: unknown fields, and values out of their range; all of them.
  """
  given = _updated(given)
  own = given.pop("schema", FLAIR_HUB)
  if not isinstance(own, Schema):
    own = schema_file.parse(
      own, where=f"{where}, schema" if where else "schema"
    )
  merge_field.refuse_dots(given, where=str(where))
  given = merge_field.without_default_weights(given, own)
  problems = fields.faults(given, own)
  if problems:
    start = f"{where}: " if where else ""
    raise InputErrors([start + line for line in problems])
  config = base.get_config(own)
  for name, row in config.inputs.items():
    # Statistics are by band: those given replace all others.
    for field in ("mean", "std"):
      if field in given.get("inputs", {}).get(name, {}):
        row[field] = ml_collections.ConfigDict()
  rules = fields.rules(own, {})
  for path, value in fields.flatten(given).items():
    if value == {}:
      continue
    if isinstance(value, list):
      value = tuple(value)
    if fields.rule_of(path, rules).is_path:
      value = os.path.expanduser(str(value))
    section, _, name = path.rpartition(".")
    (config[section] if section else config)[name] = value
  for name, task in own.tasks.items():
    merged = class_merge.merge_classes(
      task,
      merge_field.names(config, name),
      where=f"{where}: config.tasks.{name}.merge".removeprefix(": "),
    )
    if merged is not task and "class_weights" not in given["tasks"][name]:
      weights = tuple(float(w) for w in merged.scored)
      config.tasks[name].class_weights = weights
  return config.lock()


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
  content = {**plain(config), "schema": schema_file.to_json(config.schema)}
  return schema_file.dumps(content) + "\n"


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the fields as nested dictionaries of JSON, without the schema."""
  content = json.loads(config.to_json_best_effort())
  content.pop("schema")
  return content


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
  """Returns the values of all fields by their dotted names.

  Of the schema, the sensors and tasks in use: others have no effect. Merged
  classes are one field, a list, as their order is that of the channels.
  """
  flat = fields.flatten(plain(config))
  for task in config.tasks:
    if merge := merge_field.names(config, task):
      where = f"tasks.{task}.merge"
      flat = {k: v for k, v in flat.items() if not k.startswith(f"{where}.")}
      flat[where] = [[new, list(names)] for new, names in merge.items()]
  for kind, rows, used in (
    ("sensors", config.schema.sensors, config.data.modalities),
    ("tasks", config.schema.tasks, config.data.tasks),
  ):
    for name, row in rows.items():
      if name in used:
        part = row.model_dump(mode="json", exclude_defaults=True)
        flat[f"schema.{kind}.{name}"] = part
  return {name: value for name, value in flat.items() if value != {}}
