"""Acquisition dates of time series, from the published GeoPackages.

Each of the three files has 241,000 rows of about 1 kB of JSON. The patches of a
region share their dates, so there are only a few thousand distinct JSON texts;
the parsed result is cached as a small `.npz`.
"""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
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


def metadata_file(folder: str | os.PathLike, modality: str) -> pathlib.Path:
  """Returns the path in `folder` of the published dates of a series."""
  sensor = modality.removesuffix("_TS")
  return pathlib.Path(folder) / f"GLOBAL_{sensor}_MTD_DATES.gpkg"


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
    path: a `GLOBAL_*_MTD_DATES.gpkg`.
    patch_ids: the patches, in the order of the result.
    cache: folder for the parsed file; created if missing. A changed file is
      parsed again.

  Returns:
    For each patch int32 [t], days since 1970-01-01 in the order of the images;
    several may fall on one day. Patches with the same dates share one array.

  Raises:
    InputError: the file is missing or not a GeoPackage of dates.
    InputErrors: patches or dates are missing in it, one line each.
  """
  path = pathlib.Path(path).resolve()
  if not path.is_file():
    raise InputError(path, "a GeoPackage of dates", "no file of that name")
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
  table = _parse_geopackage(path)
  cache.mkdir(parents=True, exist_ok=True)
  with atomic.write_aside(cached) as aside:
    np.savez(aside, **vars(table))
  return table


def _parse_geopackage(path: pathlib.Path) -> _Table:
  patch_ids, texts = _read_columns(path)
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
  """Parses `{"0": "YYYYMMDD", ...}`; images are in the order of the keys."""
  where = f"{path}, patch {patch_id}, acquisition_dates"
  try:
    dates = json.loads(text)
    # Sort as numbers: as strings, "10" would precede "2".
    keys = sorted(dates.keys(), key=int)
  except (
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
  ) as error:
    raise InputError(
      where, 'JSON like {"1": "20210114"}', repr(text)[:80]
    ) from error
  days = np.empty(len(keys), np.int32)
  for i, key in enumerate(keys):
    days[i] = _days_since_1970(where, dates[key])
  return days


def _days_since_1970(where: str, date: Any) -> int:
  try:
    # strptime alone would also accept "2021114".
    if len(date) != 8:
      raise ValueError("not eight digits")
    parsed = datetime.datetime.strptime(date, "%Y%m%d")
  except (ValueError, TypeError) as error:
    raise InputError(where, "dates as YYYYMMDD", repr(date)) from error
  return (parsed - datetime.datetime(1970, 1, 1)).days
