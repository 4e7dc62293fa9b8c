"""Checks of names that the parts of a schema share."""

from collections.abc import Iterable
from typing import Any


def check_distinct(where: str, names: Iterable[str]) -> None:
  """Raises ValueError if a name occurs twice."""
  known = set()
  for name in names:
    if name in known:
      raise ValueError(
        f"{where}: expected each name once, found {name!r} twice"
      )
    known.add(name)


def check_known(where: str, names: Iterable[Any], known: Iterable[str]) -> None:
  """Raises ValueError if a name is none of the known ones."""
  known = tuple(known)
  for name in names:
    if name not in known:
      raise ValueError(
        f"{where}: expected any of {', '.join(known) or 'nothing'}, found"
        f" {name!r}"
      )
