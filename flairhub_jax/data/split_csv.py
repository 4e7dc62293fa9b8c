"""Split files: one row per patch, one column per sensor, mask or label."""

import csv
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flairhub_jax.errors import InputError

# Patch ids become file names: no separators, no leading dot.
_SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class Split:
  """The patches of a split and their files.

  Cells stay strings, as in the file: the published training split has 1.5
  million of them.

  Attributes:
    path: the CSV.
    patch_ids: one per patch, without duplicates.
    cells: column -> one path per patch, relative to the CSV's folder; empty
      if the patch lacks this sensor.
  """

  path: pathlib.Path
  patch_ids: tuple[str, ...]
  cells: Mapping[str, tuple[str, ...]]

  def __len__(self) -> int:
    """Number of patches."""
    return len(self.patch_ids)

  def file(self, column: str, index: int) -> str | None:
    """Returns the path of a patch's file, or None if the patch lacks it."""
    cell = self.cells[column][index]
    # Not normalised: after a symbolic link, `..` is the parent of its target.
    if cell.startswith("~/"):
      cell = os.path.expanduser(cell)
    return os.path.join(self.path.parent, cell) if cell else None


def read_split(path: str | os.PathLike, columns: Sequence[str] | None) -> Split:
  """Reads a split CSV, separated by `,` or `;`.

  Args:
    path: UTF-8, with a header of `patch_id` and any of `columns`.
    columns: names in the schema, see `Schema.columns`; None: any.

  Raises:
    InputError: the file cannot be read, has an unknown or duplicate column, no
      `patch_id`, no patch, an unsafe or duplicate id, or a row of another
      length.
  """
  path = pathlib.Path(path)
  try:
    with open(path, encoding="utf-8-sig", newline="") as file:
      header = file.readline()
      # No column name has either sign in it.
      delimiter = ";" if ";" in header else ","
      form: dict[str, Any] = {"delimiter": delimiter, "skipinitialspace": True}
      names = [name.strip() for name in next(csv.reader([header], **form), [])]
      _check_header(path, names, columns)
      rows = list(_rows(path, names, csv.reader(file, **form)))
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise InputError(path, "a readable CSV (UTF-8)", error) from error
  if not rows:
    raise InputError(path, "at least one patch", "only a header")
  cells = dict(zip(names, zip(*rows, strict=True), strict=True))
  return Split(path, cells.pop("patch_id"), cells)


def _check_header(
  path: pathlib.Path, names: list[str], known: Sequence[str] | None
) -> None:
  if "patch_id" not in names:
    raise InputError(f"{path}, header", "a column patch_id", names)
  for name in names:
    if known is not None and name not in ("patch_id", *known):
      raise InputError(
        f"{path}, column {name!r}",
        f"one of patch_id, {', '.join(known)}",
        repr(name),
      )
    if names.count(name) > 1:
      raise InputError(f"{path}, column {name!r}", "it once", "it twice")


def _rows(
  path: pathlib.Path, names: list[str], reader: Iterator[list[str]]
) -> Iterator[list[str]]:
  patch_id_column = names.index("patch_id")
  first_line: dict[str, int] = {}
  for number, row in enumerate(reader, start=2):
    if not row:
      continue
    if len(row) != len(names):
      raise InputError(f"{path}, row {number}", f"{len(names)} cells", len(row))
    row = [cell.strip() for cell in row]
    for name, cell in zip(names, row, strict=True):
      if not cell.isprintable():
        raise InputError(
          f"{path}, row {number}, {name}",
          "no control characters",
          repr(cell)[:80],
        )
    patch_id = row[patch_id_column]
    if not _SAFE_ID.fullmatch(patch_id):
      raise InputError(
        f"{path}, row {number}, patch_id",
        "letters, digits, '.', '_' and '-', no '.' in front",
        repr(patch_id),
      )
    if patch_id in first_line:
      raise InputError(
        f"{path}, row {number}, patch_id",
        f"{patch_id!r} once",
        f"it in row {first_line[patch_id]} too",
      )
    first_line[patch_id] = number
    yield row
