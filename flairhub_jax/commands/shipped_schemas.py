"""The shipped schemas by name, and the flag `--schema`."""

import argparse
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
  """Returns a shipped schema.

  Raises:
    InputError: unknown name.
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
    help="sensors and label tasks: a .toml or .json file (from `flairhub"
    f" schema`), or one of {', '.join(SCHEMAS)} (default: %(default)s)",
  )


def load(text: str) -> Schema:
  """Returns the schema of `--schema`: a shipped one, or from a file.

  Raises:
    InputError: neither, or an invalid file.
  """
  path = pathlib.Path(text)
  if text in SCHEMAS:
    return SCHEMAS[text]
  if not path.is_file():
    names = ", ".join(SCHEMAS)
    raise InputError("--schema", f"a file, or one of {names}", repr(text))
  return schema_file.load(path)
