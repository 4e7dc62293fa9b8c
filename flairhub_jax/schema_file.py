"""Schemas in JSON and TOML: read, checked, compared and written."""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.schema import Schema

# Description of a converted data set (data/records.py), with its schema.
DATASET_FILE = "dataset.json"
# Ground sampling distances may differ by this fraction.
GSD_TOLERANCE = 0.02

_MAX_BYTES = 2**24


def parse(content: Any, *, where: str | os.PathLike) -> Schema:
  """Checks a schema in the form of its JSON or TOML.

  Raises:
    InputErrors: missing, unknown or contradictory fields, one line each.
  """
  try:
    return Schema.model_validate(content)
  except pydantic.ValidationError as error:
    raise InputErrors(
      [f"{where}{line}" for line in _fault_lines(error, content)]
    ) from error


def _fault_lines(error: pydantic.ValidationError, content: Any) -> list[str]:
  return [_fault_line(fault, content) for fault in error.errors()]


def _fault_line(fault: Any, content: Any) -> str:
  """One line `, field: expected …, found …` of a fault that pydantic found."""
  place, names = content, []
  for part in fault["loc"]:
    try:
      place = place[part]
    except (LookupError, TypeError):
      place = None
    is_row = isinstance(part, int) and isinstance(place, Mapping)
    name = (place.get("id") or place.get("name")) if is_row else None
    names.append(str(part if name is None else name))
  where = f", {'.'.join(names)}" if names else ""
  text = str(fault["msg"]).removeprefix("Value error, ")
  if "expected" in text:
    joint = "." if names and re.match(r"[^:]+: expected ", text) else ": "
    return f"{where}{joint}{text}" if names else f", {text}"
  if fault["type"] == "missing":
    return f"{where}: expected this field, found none"
  if fault["type"] == "extra_forbidden":
    return f"{where}: expected no such field, found {_short(fault['input'])}"
  if fault["type"] == "string_pattern_mismatch" and names[-1] == "colour":
    text = "a colour as #rrggbb"
  text = re.sub(r"^Input should be (?:a valid |an? )?", "", text)
  return f"{where}: expected {text}, found {_short(fault['input'])}"


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 80 else f"{text[:80]}…"


def load(path: str | os.PathLike) -> Schema:
  """Reads a schema from a `.toml` or `.json` file.

  Raises:
    InputError: it cannot be read.
    InputErrors: see `parse`.
  """
  try:
    with open(path, "rb") as file:
      data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
      raise ValueError(f"more than {_MAX_BYTES} bytes")
    text = data.decode()
    is_toml = str(path).endswith(".toml")
    content = tomllib.loads(text) if is_toml else json.loads(text)
  except (OSError, ValueError, RecursionError) as error:
    raise InputError(path, "a schema in TOML or JSON", error) from error
  return parse(content, where=path)


def of_dataset(folder: str | os.PathLike) -> Schema | None:
  """Returns the schema of a converted data set.

  None if there is no data set, or one of the first version of the format, which
  has no schema of its own. `records.load_dataset` checks all the rest.

  Raises:
    InputErrors: see `parse`.
  """
  path = os.path.join(folder, DATASET_FILE)
  try:
    with open(path, "rb") as file:
      content = json.loads(file.read())
  except (OSError, ValueError, RecursionError):
    return None
  schema = content.get("schema") if isinstance(content, dict) else None
  return None if schema is None else parse(schema, where=f"{path}, schema")


def contradictions(
  run: Schema, data: Schema, *, sensors: Iterable[str], tasks: Iterable[str]
) -> list[str]:
  """Compares the sensors and tasks in use between a run and a data set.

  Names, units, colours and statistics may differ.

  Returns:
    A line `<field>: expected …, as the run has, found …` per contradiction.
  """
  lines = []
  for kind, names, known in (
    ("sensor", sensors, data.sensors),
    ("task", tasks, data.tasks),
  ):
    for name in names:
      if name not in known:
        lines.append(
          f"{kind} {name}: expected it in the data set's schema, found"
          f" {', '.join(known) or 'none'}"
        )
  for name in sensors:
    if name not in data.sensors:
      continue
    first, second = run.sensors[name], data.sensors[name]
    pairs: list[tuple[str, Any, Any]] = [
      (field, getattr(first, field), getattr(second, field))
      for field in ("kind", "bands", "dtype", "derived_bands", "quality_mask")
    ]
    if abs(second.gsd / first.gsd - 1) > GSD_TOLERANCE:
      pairs.append(("gsd", first.gsd, second.gsd))
    lines += _unequal(f"sensor {name}", pairs)
  for name in tasks:
    if name not in data.tasks:
      continue
    a, b = run.tasks[name], data.tasks[name]
    stored = [
      {each.name: t.stored_values(i) for i, each in enumerate(t.classes)}
      for t in (a, b)
    ]
    pairs = [
      ("classes", a.class_names, b.class_names),
      ("values of classes", stored[0], stored[1]),
      ("band", a.band, b.band),
      ("ignored", a.ignored, b.ignored),
    ]
    lines += _unequal(f"task {name}", pairs)
  return lines


def _unequal(where: str, pairs: Iterable[tuple[str, Any, Any]]) -> list[str]:
  def text(value: Any) -> str:
    is_names = isinstance(value, tuple) and all(
      isinstance(x, str) for x in value
    )
    return ", ".join(value) if is_names else str(value)

  return [
    f"{where}, {field}: expected {text(run)}, as the run has, found"
    f" {text(data)} in the data set"
    for field, run, data in pairs
    if run != data
  ]


def dumps(value: Any, indent: str = "") -> str:
  """Returns JSON; a value of up to 100 characters stays on one line."""
  line = json.dumps(value, allow_nan=False)
  if not isinstance(value, (dict, list)) or len(indent) + len(line) <= 100:
    return line
  inner = f"{indent}  "
  if isinstance(value, dict):
    parts = [f"{json.dumps(k)}: {dumps(v, inner)}" for k, v in value.items()]
    start, end = "{}"
  else:
    parts = [dumps(each, inner) for each in value]
    start, end = "[]"
  joined = f",\n{inner}".join(parts)
  return f"{start}\n{inner}{joined}\n{indent}{end}"


def to_json(schema: Schema) -> dict[str, Any]:
  """Returns the content of a schema's JSON; fields of default are left out."""
  return schema.model_dump(mode="json", exclude_defaults=True, by_alias=True)
