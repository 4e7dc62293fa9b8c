"""The reference's YAML files: read with suspicion, written for it.

Nothing of what they hold is trusted: every value is asked for by its place
and its type.
"""

import math
import os
import pathlib
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from flairhub_jax import atomic
from flairhub_jax.errors import InputError

# The published files have a few kilobytes.
_LARGEST = 200_000
_DEEPEST = 20
_SUFFIXES = (".yaml", ".yml")


def read_documents(path: str | os.PathLike) -> dict[str, Any]:
  """Reads one YAML file, or all of a folder joined by their top-level keys.

  Raises:
    InputError: no such file, no YAML, or two files that disagree.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    files = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES)
    if not files:
      raise InputError(path, f"files {' or '.join(_SUFFIXES)}", "none")
  elif path.is_file():
    files = [path]
  else:
    raise InputError(path, "a YAML file or a folder of them", "neither")
  joined: dict[str, Any] = {}
  origin: dict[str, pathlib.Path] = {}
  for file in files:
    for key, value in _read(file).items():
      if key in joined and joined[key] != value:
        raise InputError(
          f"{file}: {key}", f"what {origin[key].name} says", "something else"
        )
      joined[key], origin[key] = value, file
  return joined


def _read(file: pathlib.Path) -> dict[str, Any]:
  try:
    size = file.stat().st_size
    if size > _LARGEST:
      raise InputError(file, f"at most {_LARGEST} bytes of YAML", size)
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
  """Small texts that take all time or memory to read."""
  depth = 0
  for event in yaml.parse(text, Loader=yaml.SafeLoader):
    if isinstance(event, yaml.AliasEvent):
      # A few aliases of aliases unfold to more than any memory holds.
      raise InputError(file, "YAML without aliases", f"*{event.anchor}")
    depth += isinstance(event, yaml.CollectionStartEvent)
    depth -= isinstance(event, yaml.CollectionEndEvent)
    if depth > _DEEPEST:
      raise InputError(file, f"at most {_DEEPEST} levels of YAML", "more")


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


class Section:
  """A mapping of a YAML file, whose values are asked for by type.

  A value that is absent (or null) is None; one of another type is an
  InputError that names its place.
  """

  def __init__(self, where: str, values: Any, *, joint: str = "."):
    """Takes a mapping; None counts as an empty one.

    Args:
      where: its own place.
      values: what stands there.
      joint: put between its place and a name in it.
    """
    values = {} if values is None else values
    if not isinstance(values, dict):
      raise InputError(where, "a mapping", _shown(values))
    self.where = where
    self._joint = joint
    self._values = {str(key): value for key, value in values.items()}

  def __contains__(self, name: str) -> bool:
    return self._values.get(name) is not None

  def __iter__(self) -> Iterator[str]:
    return iter(self._values)

  def __len__(self) -> int:
    return len(self._values)

  def place(self, name: str) -> str:
    """Where an error message says that `name` stands."""
    return f"{self.where}{self._joint}{name}"

  def section(self, name: str) -> "Section":
    """The mapping under `name`; empty if absent."""
    return Section(self.place(name), self._values.get(name))

  def is_true(self, name: str) -> bool | None:
    """True or False."""
    return self._checked(name, "True or False", lambda v: isinstance(v, bool))

  def text(self, name: str) -> str | None:
    """A word."""
    return self._checked(name, "a word", lambda v: isinstance(v, str))

  def whole(self, name: str, at_least: int = 0) -> int | None:
    """A whole number."""
    return self._checked(
      name,
      f"a whole number from {at_least}",
      lambda v: _is_number(v, int) and v >= at_least,
    )

  def number(self, name: str) -> float | None:
    """A finite number."""
    value = self._values.get(name)
    # YAML 1.1 takes 5e-5, without a point, for a word.
    if isinstance(value, str):
      try:
        value = float(value)
      except ValueError:
        pass
    if value is None:
      return None
    if not _is_number(value, (int, float)):
      raise InputError(self.place(name), "a finite number", _shown(value))
    return float(value)

  def numbers(self, name: str) -> tuple[float, ...] | None:
    """A list of finite numbers."""
    values = self._list(name, "a list of finite numbers", (int, float))
    return values and tuple(map(float, values))

  def whole_numbers(self, name: str) -> tuple[int, ...] | None:
    """A list of whole numbers."""
    return self._list(name, "a list of whole numbers", int)

  def texts(self, name: str) -> tuple[str, ...] | None:
    """A list of words."""
    return self._list(name, "a list of words", str)

  def _checked(self, name, expected, is_right):
    value = self._values.get(name)
    if value is not None and not is_right(value):
      raise InputError(self.place(name), expected, _shown(value))
    return value

  def _list(self, name, expected, kind):
    def is_right(values):
      return isinstance(values, list) and all(
        isinstance(v, str) if kind is str else _is_number(v, kind)
        for v in values
      )

    values = self._checked(name, expected, is_right)
    return None if values is None else tuple(values)


def _is_number(value, kind):
  if isinstance(value, bool) or not isinstance(value, kind):
    return False
  # Python's whole numbers have no largest one.
  return (
    math.isfinite(value) if isinstance(value, float) else (abs(value) < 2**63)
  )


def _shown(value):
  """`value` in a few words."""
  return reprlib.repr(value)
