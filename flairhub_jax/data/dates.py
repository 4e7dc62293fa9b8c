"""Acquisition dates of time series, from a GeoPackage or a CSV.

Each of the published files has 241,000 rows of about 1 kB of JSON. The patches
of a region share their dates, so there are only a few thousand distinct JSON
texts; the parsed result is cached as a small `.npz`.
"""

import csv
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw

from flairhub_jax import atomic
from flairhub_jax.errors import InputError, InputErrors

_FIELDS = ("patch_id", "acquisition_dates")


@dataclasses.dataclass(frozen=True)
class _Table:
  """Dates of all patches in a file.

  Attributes:
    patch_ids: ASCII bytes [n].
    series: int32 [n], index of the patch's list of dates.
    starts: int64 [m + 1], start of each list of dates in `days`.
    days: int32 [...], days since 1970-01-01, all lists concatenated.
    faults: UTF-8 bytes [m], error in the text of each list; empty if valid.
  """

  patch_ids: np.ndarray
  series: np.ndarray
  starts: np.ndarray
  days: np.ndarray
  faults: np.ndarray


def read_dates(
  path: str | os.PathLike,
  patch_ids: Sequence[str],
  *,
  cache: str | os.PathLike,
) -> list[np.ndarray]:
  """Returns the acquisition dates of each patch.

  Args:
    path: a GeoPackage, or a `.csv`, with columns patch_id and
      acquisition_dates. These are `{"1": "YYYYMMDD", ...}`, or in a CSV also
      YYYYMMDD separated by spaces or semicolons.
    patch_ids: the patches, in the order of the result.
    cache: folder for the parsed file; created if missing. A changed file is
      parsed again.

  Returns:
    For each patch int32 [t], days since 1970-01-01 in the order of the images;
    several may fall on one day. Patches with the same dates share one array.

  Raises:
    InputError: the file is missing or has no dates.
    InputErrors: patches or dates are missing in it, one line each.
  """
  path = pathlib.Path(path).resolve()
  if not path.is_file():
    raise InputError(path, "a file of dates", "no file of that name")
  table = _load_table(path, pathlib.Path(cache))
  rows = {name.decode(): i for i, name in enumerate(table.patch_ids.tolist())}
  missing = [patch_id for patch_id in patch_ids if patch_id not in rows]
  if missing:
    raise InputErrors(
      [
        str(InputError(path, f"dates of patch {patch_id}", "no such row"))
        for patch_id in missing
      ]
    )
  used = np.unique([table.series[rows[name]] for name in patch_ids])
  faults = [table.faults[i].decode() for i in used if table.faults[i]]
  if faults:
    raise InputErrors(faults)
  every = np.split(table.days, table.starts[1:-1])
  return [every[table.series[rows[patch_id]]] for patch_id in patch_ids]


def _load_table(path: pathlib.Path, cache: pathlib.Path) -> _Table:
  status = path.stat()
  key = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
  cached = cache / f"dates-{hashlib.sha256(key.encode()).hexdigest()}.npz"
  try:
    # If np.load opens the file itself and fails, it leaves it open.
    with (
      open(cached, "rb") as file,
      np.load(file, allow_pickle=False) as arrays,
    ):
      return _Table(**arrays)
  except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
    # Missing or damaged: rebuild it from the source.
    pass
  table = _parse_table(path)
  cache.mkdir(parents=True, exist_ok=True)
  with atomic.write_aside(cached) as aside:
    np.savez(aside, **vars(table))
  return table


def _parse_table(path: pathlib.Path) -> _Table:
  is_csv = path.suffix.lower() == ".csv"
  patch_ids, texts = _read_csv(path) if is_csv else _read_columns(path)
  # A text without dates is an error only if its patch is requested.
  numbers: dict[object, int] = {}
  series, days, faults = [], [], {}
  for patch_id, text in zip(patch_ids, texts, strict=True):
    if text not in numbers:
      try:
        parsed = _parse_dates(path, patch_id, text)
      except InputError as error:
        faults[len(days)] = str(error)
        parsed = np.zeros(0, np.int32)
      numbers[text] = len(days)
      days.append(parsed)
    series.append(numbers[text])
  lengths = [len(each) for each in days]
  return _Table(
    patch_ids=np.array([str(name).encode() for name in patch_ids], "S"),
    series=np.array(series, np.int32),
    starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    days=np.concatenate([np.zeros(0, np.int32), *days]),
    faults=np.array(
      [faults.get(i, "").encode() for i in range(len(days))], "S"
    ),
  )


def _read_csv(path: pathlib.Path) -> tuple[list[str], list[str]]:
  """Reads the two columns of a CSV, separated by `,` or `;`.

  Raises:
    InputError: it cannot be read, lacks a column, or names a patch twice.
  """
  try:
    with open(path, encoding="utf-8-sig", newline="") as file:
      header = file.readline()
      # With a comma in the header, semicolons may separate the dates.
      delimiter = "," if "," in header else ";"
      names = [name.strip().strip('"') for name in header.split(delimiter)]
      for field in _FIELDS:
        if field not in names:
          raise InputError(
            f"{path}, header",
            f"the columns {' and '.join(_FIELDS)}",
            ", ".join(names),
          )
      rows: dict[str, str] = {}
      reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
      for number, row in enumerate(reader, start=2):
        if not row:
          continue
        if len(row) != len(names):
          raise InputError(
            f"{path}, row {number}", f"{len(names)} cells", len(row)
          )
        patch_id, text = (row[names.index(field)].strip() for field in _FIELDS)
        if patch_id in rows:
          raise InputError(
            f"{path}, row {number}, patch_id", f"{patch_id!r} once", "it twice"
          )
        rows[patch_id] = text
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise InputError(path, "a readable CSV (UTF-8)", error) from error
  return list(rows), list(rows.values())


def _read_columns(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Reads the two columns from the first layer that has both.

  Raises:
    InputError: no layer has both; the message lists layers and columns.
  """
  found = []
  try:
    for layer, _ in pyogrio.list_layers(path):
      fields = pyogrio.read_info(path, layer=layer)["fields"].tolist()
      if set(_FIELDS) <= set(fields):
        metadata, _, _, columns = pyogrio.raw.read(
          path, layer=layer, columns=list(_FIELDS), read_geometry=False
        )
        by_name = dict(zip(metadata["fields"], columns, strict=True))
        return tuple(by_name[name] for name in _FIELDS)
      found.append(f"layer {layer!r} with {', '.join(fields) or 'none'}"[:200])
  except UnicodeDecodeError as error:
    raise InputError(path, "text in UTF-8", error) from error
  except (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FieldError,
  ) as error:
    raise InputError(path, "a readable GeoPackage", error) from error
  more = [f"and {len(found) - 10} more"] if len(found) > 10 else []
  raise InputError(
    path,
    f"a layer with the columns {' and '.join(_FIELDS)}",
    "; ".join([*found[:10], *more]) or "no layer",
  )


def _parse_dates(
  path: pathlib.Path, patch_id: str, text: str | None
) -> np.ndarray:
  """Parses `{"0": "YYYYMMDD", ...}`; images are in the order of the keys.

  In a CSV, `YYYYMMDD YYYYMMDD` or `YYYYMMDD;YYYYMMDD` is in the images' order.
  """
  where = f"{path}, patch {patch_id}, acquisition_dates"
  if path.suffix.lower() == ".csv" and not (text or "").startswith("{"):
    days = [
      _day(where, date)
      for date in re.split(r"[\s;]+", (text or "").strip(" ;"))
      if date
    ]
    return np.array(days, np.int32)
  try:
    dates = json_in_order(text)
  except ValueError as error:
    raise InputError(
      where, 'JSON like {"1": "20210114"}', repr(text)[:80]
    ) from error
  return np.array([_day(where, date) for date in dates], np.int32)


def _day(where: str, date: Any) -> int:
  try:
    return days_since_1970(date)
  except ValueError as error:
    raise InputError(where, "dates as YYYYMMDD", repr(date)) from error


def json_in_order(text: str | None) -> list[Any]:
  """Returns the values of a JSON object in the order of its keys as numbers.

  Args:
    text: `{"1": "20210114", …}`; None is no JSON.

  Raises:
    ValueError: no JSON, no object, or a key that is no number.
  """
  try:
    dates = json.loads(text)
    # Sort as numbers: as strings, "10" would precede "2".
    return [dates[key] for key in sorted(dates.keys(), key=int)]
  except (TypeError, AttributeError, RecursionError) as error:
    raise ValueError(str(error)) from error


def days_since_1970(date: Any) -> int:
  """Returns the number of days from 1970-01-01 to a date.

  Raises:
    ValueError: it is no text YYYYMMDD, or no day of the calendar.
  """
  # strptime alone would also accept "2021114".
  if not isinstance(date, str) or len(date) != 8:
    raise ValueError("not eight digits")
  parsed = datetime.datetime.strptime(date, "%Y%m%d")
  return (parsed - datetime.datetime(1970, 1, 1)).days
