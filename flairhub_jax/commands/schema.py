"""Derive the schema of a data set from its files, or print a shipped one."""

import argparse
import pathlib
import sys

import tomlkit

from flairhub_jax import atomic, schema_file
from flairhub_jax.commands import shipped_schemas
from flairhub_jax.data import derive_schema
from flairhub_jax.errors import InputError
from flairhub_jax.schema import Schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  source = parser.add_mutually_exclusive_group(required=True)
  source.add_argument(
    "--from-csv",
    type=pathlib.Path,
    metavar="CSV",
    help="split file: patch_id and a column per sensor, mask or label raster;"
    " a sample of the files is read",
  )
  source.add_argument(
    "--shipped",
    metavar="NAME",
    help=f"a schema of the package: {', '.join(shipped_schemas.SCHEMAS)}",
  )
  parser.add_argument(
    "--metadata",
    type=pathlib.Path,
    metavar="FOLDER",
    help="folder of the files with dates; default: GLOBAL_ALL_MTD in the"
    " folder of the CSV or up to two levels above",
  )
  parser.add_argument(
    "--out",
    type=pathlib.Path,
    metavar="FILE",
    help="a new .toml or .json file (default: TOML on standard output)",
  )


def run(args: argparse.Namespace) -> int:
  """Writes the schema, and one line per assumption."""
  if args.out is not None and args.out.exists():
    raise InputError(args.out, "a new file", "an existing file")
  guesses: list[str] = []
  if args.shipped is not None:
    schema = shipped_schemas.find(args.shipped, where="--shipped")
  else:
    name = args.from_csv.stem
    schema, guesses = derive_schema.derive(
      args.from_csv, name=name, metadata=args.metadata
    )
  is_json = args.out is not None and args.out.suffix == ".json"
  text = to_json(schema) if is_json else to_toml(schema, guesses)
  for line in guesses:
    print(f"assumed: {line}", file=sys.stderr)
  if args.out is None:
    print(text, end="")
  else:
    atomic.write_text(args.out, text)
    print(f"{args.out}: {describe(schema)}")
  return 0


def describe(schema: Schema) -> str:
  """Returns one line with the sensors and the tasks."""
  sensors = ", ".join(
    f"{s.id} ({len(s.bands)} bands, {s.gsd:g} m)"
    for s in schema.sensors.values()
  )
  tasks = ", ".join(
    f"{t.id} ({t.num_classes} classes)" for t in schema.tasks.values()
  )
  return f"{sensors}; {tasks or 'no labels'}"


def to_json(schema: Schema) -> str:
  """Returns the text of a `.json` file."""
  return schema_file.dumps(schema_file.to_json(schema)) + "\n"


def to_toml(schema: Schema, guesses: list[str]) -> str:
  """Returns the text of a `.toml` file, with assumptions as comments."""
  document = tomlkit.document()
  if guesses:
    document.add(tomlkit.comment("Assumptions, to be checked:"))
  for line in guesses:
    document.add(tomlkit.comment(line))
  content = schema_file.to_json(schema)
  document.add("name", content["name"])
  for kind in ("sensors", "tasks"):
    rows = tomlkit.aot()
    for row in content.get(kind, ()):
      rows.append(_table(row))
    if rows:
      document.add(kind, rows)
  return tomlkit.dumps(document)


def _table(row: dict) -> tomlkit.items.Table:
  """Returns a table with one line per field and per class."""
  table = tomlkit.table()
  for name, value in row.items():
    if name == "classes":
      lines = tomlkit.array().multiline(True)
      for each in value:
        line = tomlkit.inline_table()
        line.update(each)
        lines.append(line)
      table.add(name, lines)
    elif isinstance(value, dict):
      line = tomlkit.inline_table()
      line.update(value)
      table.add(name, line)
    else:
      table.add(name, value)
  return table
