"""Names in a configuration that must be among those that exist."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from flairhub_jax.errors import InputError


def known(
  where: str, names: Iterable[str], among: Collection[str]
) -> tuple[str, ...]:
  """`names` as a tuple, all of them in `among` and none twice."""
  names = tuple(names)
  for i, name in enumerate(names):
    if name not in among:
      raise InputError(where, f"any of {', '.join(among)}", repr(name))
    if name in names[:i]:
      raise InputError(where, "each name once", f"{name!r} twice")
  return names


def one(where: str, section: Any, among: Collection[str]) -> str:
  """The field named last in `where`, which must be one of `among`."""
  return known(where, [section[where.rpartition(".")[2]]], among)[0]


def lookup(where: str, name: str, table: Mapping[str, Any]) -> Any:
  """Returns `table[name]`."""
  if name not in table:
    raise InputError(where, f"one of {', '.join(table)}", repr(name))
  return table[name]
