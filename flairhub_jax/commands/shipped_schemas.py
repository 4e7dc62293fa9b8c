"""The schemas of the package by name, and schemas of files."""

import argparse
import os
import pathlib
from collections.abc import Mapping

from flairhub_jax import schema_file
from flairhub_jax.errors import InputError
from flairhub_jax.flair_challenges import FLAIR_1, FLAIR_2
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import Schema

SCHEMAS: Mapping[str, Schema] = {
  "flair-hub": FLAIR_HUB,
  "flair-1": FLAIR_1,
  "flair-2": FLAIR_2,
}


def find(name: str, *, where: str) -> Schema:
  """Returns a schema of the package.

  Raises:
    InputError: there is none of this name.
  """
  if name not in SCHEMAS:
    raise InputError(where, f"one of {', '.join(SCHEMAS)}", repr(name))
  return SCHEMAS[name]


def add_argument(parser: argparse.ArgumentParser) -> None:
  """Declares `--schema`, for `load`."""
  parser.add_argument(
    "--schema",
    default="flair-hub",
    metavar="FILE",
    help="sensors and label tasks: a .toml or .json file (`flairhub schema`"
    f" makes one), or one of {', '.join(SCHEMAS)} (default: %(default)s)",
  )


def load(text: str) -> Schema:
  """Returns the schema that `--schema` names: of the package, or of a file.

  Raises:
    InputError: neither, or a file that holds no schema.
  """
  path = pathlib.Path(os.path.expanduser(text))
  if text in SCHEMAS:
    return SCHEMAS[text]
  if not path.is_file():
    names = ", ".join(SCHEMAS)
    raise InputError("--schema", f"a file, or one of {names}", repr(text))
  return schema_file.load(path)
