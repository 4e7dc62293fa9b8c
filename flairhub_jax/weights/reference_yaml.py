"""Reading, as untrusted input, and writing of the reference's YAML files."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from flairhub_jax import atomic
from flairhub_jax.errors import InputError

# The published files have a few kilobytes.
_MAX_BYTES = 200_000
_MAX_DEPTH = 20
_SUFFIXES = (".yaml", ".yml")


def read_documents(path: str | os.PathLike) -> dict[str, Any]:
  """Reads a YAML file, or joins those of a folder by their top-level keys.

  Raises:
    InputError: no such file, invalid YAML, or two files that disagree.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    files = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES)
    if not files:
      raise InputError(path, f"files {' or '.join(_SUFFIXES)}", "none")
  elif path.is_file():
    files = [path]
  else:
    raise InputError(path, "a YAML file or a folder of them", "no such path")
  joined: dict[str, Any] = {}
  origin: dict[str, pathlib.Path] = {}
  for file in files:
    for key, value in _read(file).items():
      if key in joined and joined[key] != value:
        raise InputError(
          f"{file}: {key}", f"as in {origin[key].name}", "another value"
        )
      joined[key], origin[key] = value, file
  return joined


def _read(file: pathlib.Path) -> dict[str, Any]:
  try:
    size = file.stat().st_size
    if size > _MAX_BYTES:
      raise InputError(file, f"at most {_MAX_BYTES} bytes of YAML", size)
    text = file.read_bytes()
    _refuse_bombs(file, text)
    content = yaml.safe_load(text)
  except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
    if isinstance(error, InputError):
      raise
    text = " ".join(str(error).split())[:200]
    raise InputError(file, "YAML", text) from error
  if content is None:
    return {}
  if not isinstance(content, dict):
    raise InputError(file, "a mapping", type(content).__name__)
  return {str(key): value for key, value in content.items()}


def _refuse_bombs(file: pathlib.Path, text: bytes) -> None:
  """Refuses short documents that expand to unlimited time or memory."""
  depth = 0
  for event in yaml.parse(text, Loader=yaml.SafeLoader):
    if isinstance(event, yaml.AliasEvent):
      # Nested aliases expand exponentially ("billion laughs").
      raise InputError(file, "YAML without aliases", f"*{event.anchor}")
    depth += isinstance(event, yaml.CollectionStartEvent)
    depth -= isinstance(event, yaml.CollectionEndEvent)
    if depth > _MAX_DEPTH:
      raise InputError(file, f"at most {_MAX_DEPTH} levels of YAML", "more")


def write_documents(
  folder: str | os.PathLike, documents: Mapping[str, Mapping[str, Any]]
) -> None:
  """Writes each document as `<name>.yaml`."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  for name, document in documents.items():
    text = yaml.safe_dump(
      document, sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    atomic.write_text(folder / f"{name}.yaml", text)
