"""Sources of a conversion: split files, dates, and checks that files exist."""

import concurrent.futures
import hashlib
import itertools
import json
import math
import os
import pathlib
import stat
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from flairhub_jax.data import (
  columns,
  dates,
  geotiff,
  patch_files,
  records,
  split_csv,
)
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.schema import Schema

METADATA_FOLDER = "GLOBAL_ALL_MTD"

_MAX_SHARDS = 256
_PATCHES_PER_SHARD = 16
# Reading file sizes from a network disk is bound by latency, not by the CPU.
_NUM_STAT_THREADS = 16

Shapes = Mapping[str, patch_files.Shape]


class SplitSource:
  """A split: its CSV, its dates and its division into shards."""

  def __init__(self, name: str, split: split_csv.Split, schema: Schema):
    self.name = name
    self.split = split
    self.schema = schema
    # Series -> row -> int32 [t], for patches with this series.
    self.days: dict[str, dict[int, np.ndarray]] = {}
    # Per shard: size and modification time of its files, column by column.
    self.statuses: list[list[tuple[int, int]]] = []
    self.num_shards = min(
      _MAX_SHARDS, math.ceil(len(split) / _PATCHES_PER_SHARD)
    )

  def rows(self, shard: int) -> range:
    """Returns the rows of a shard."""
    n, total = self.num_shards, len(self.split)
    return range(shard * total // n, (shard + 1) * total // n)

  def columns(self) -> list[str]:
    """Returns the CSV's columns in the order of the schema."""
    return [name for name in self.schema.columns if name in self.split.cells]

  def patch(self, row: int) -> patch_files.PatchFiles:
    """Returns files and dates of a patch."""
    files = {
      column: path
      for column in self.columns()
      if (path := self.split.file(column, row))
    }
    days = {
      name: by_row[row] for name, by_row in self.days.items() if row in by_row
    }
    return patch_files.PatchFiles(self.split.patch_ids[row], files, days)

  def read_dates(
    self, metadata: pathlib.Path | None, cache: pathlib.Path
  ) -> None:
    """Reads the dates of every series.

    Raises:
      InputError: a file of dates is missing or invalid.
      InputErrors: a file of dates lacks patches.
    """
    for name, cells in self.split.cells.items():
      rows = [row for row, cell in enumerate(cells) if cell]
      sensor = self.schema.sensors.get(name)
      if not rows or sensor is None or sensor.dates is None:
        continue
      folder = metadata or _find_metadata(self.split.path)
      days = dates.read_dates(
        folder / sensor.dates,
        [self.split.patch_ids[row] for row in rows],
        cache=cache,
      )
      self.days[name] = dict(zip(rows, days, strict=True))

  def digest_dates(self, rows: range) -> bytes:
    """Returns a digest of the dates of the patches in these rows."""
    digest = hashlib.sha256()
    for name in sorted(self.days):
      for row in rows:
        days = self.days[name].get(row)
        digest.update(b"-" if days is None else days.tobytes())
        digest.update(b";")
    return digest.digest()

  def digest(self) -> str:
    """Returns a digest of the CSV, the files' sizes and the dates."""
    digest = hashlib.sha256(self.split.path.read_bytes())
    sizes = [size for shard in self.statuses for size, _ in shard]
    digest.update(json.dumps(sizes).encode())
    digest.update(self.digest_dates(range(len(self.split))))
    return digest.hexdigest()

  def digest_statuses(self) -> list[str]:
    """Returns, per shard, a digest of the sizes and times of its files."""
    return [
      hashlib.sha256(json.dumps(shard).encode()).hexdigest()[:16]
      for shard in self.statuses
    ]

  def describe_change(self, digests: Sequence[str], since_ns: int) -> str:
    """Describes the files changed since the conversion; empty if none changed.

    Args:
      digests: result of `digest_statuses` at the conversion.
      since_ns: time of the conversion, in ns since 1970.
    """
    pairs = zip(digests, self.digest_statuses(), strict=True)
    shards = [i for i, (then, now) in enumerate(pairs) if then != now]
    if not shards:
      return ""
    rows = [row for shard in shards for row in self.rows(shard)]
    newer = [
      path
      for row in rows
      for path in self.patch(row).files.values()
      if os.stat(path).st_mtime_ns > since_ns
    ]
    if newer:
      return f"{len(newer)} files changed since, first {newer[0]}"
    first, last = (self.split.patch_ids[row] for row in (rows[0], rows[-1]))
    return f"files of other times or sizes among patches {first} to {last}"


def read_splits(
  splits: Mapping[str, pathlib.Path], schema: Schema
) -> list[SplitSource]:
  """Reads the CSVs of the splits, in the usual order.

  Raises:
    InputError: see `split_csv.read_split`.
  """
  return [
    SplitSource(
      name, split_csv.read_split(splits[name], schema.columns), schema
    )
    for name in records.SPLITS
    if name in splits
  ]


def _find_metadata(csv_path: pathlib.Path) -> pathlib.Path:
  # First beside the path as written, then beside the target of its links.
  written = pathlib.Path(os.path.abspath(csv_path)).parents[:3]
  for folder in (*written, *csv_path.resolve().parents[:3]):
    if (folder / METADATA_FOLDER).is_dir():
      return folder / METADATA_FOLDER
  raise InputError(
    csv_path,
    f"a folder {METADATA_FOLDER} with the dates of its time series beside it "
    "or up to two folders above (or the flag --metadata)",
    "none",
  )


def find_shared_patches(sources: Sequence[SplitSource]) -> list[str]:
  """Lists patches that are in two splits, by id or by file."""
  lines = []
  for first, second in itertools.combinations(sources, 2):
    ids = set(first.split.patch_ids)
    files = set(_first_files(first))
    shared = [
      patch_id
      for patch_id, file in zip(
        second.split.patch_ids, _first_files(second), strict=True
      )
      if patch_id in ids or (file is not None and file in files)
    ]
    if shared:
      lines.append(
        f"{len(shared)} of {len(second.split)} patches of {second.name} are "
        f"in {first.name} too ({second.split.path}, {first.split.path}), "
        f"first {shared[0]}"
      )
  return lines


def _first_files(source: SplitSource) -> Iterator[str | None]:
  """Yields one file per patch, of the same sensor where possible."""
  names = [name for name in source.columns() if name in source.schema.sensors]
  for row in range(len(source.split)):
    files = (source.split.file(column, row) for column in names)
    file = next(filter(None, files), None)
    yield file and os.path.abspath(file)


def check_files(sources: Sequence[SplitSource]) -> None:
  """Checks that every file exists before any is read."""
  problems = []
  with concurrent.futures.ThreadPoolExecutor(_NUM_STAT_THREADS) as executor:
    for source in sources:
      shards = range(source.num_shards)
      for statuses, shard_problems in executor.map(
        lambda shard, source=source: _check_patches(source, shard), shards
      ):
        source.statuses.append(statuses)
        problems += shard_problems
  if problems:
    raise InputErrors(problems)


def _check_patches(
  source: SplitSource, shard: int
) -> tuple[list[tuple[int, int]], list[str]]:
  """Returns sizes and modification times of files, and the missing files."""
  statuses, problems = [], []
  schema, columns = source.schema, source.columns()
  labels = [name for name in columns if name in schema.label_columns]
  for row in source.rows(shard):
    patch = source.patch(row)
    where = f"{source.split.path}, patch {patch.patch_id}"
    required = labels + [
      mask
      for mask, sensor in schema.quality_masks.items()
      if sensor.id in patch.files and mask in columns
    ]
    for column in required:
      if column not in patch.files:
        problems.append(f"{where}: expected a file of {column}, found none")
    if not any(name in patch.files for name in schema.sensors):
      problems.append(f"{where}: expected a file of a sensor, found none")
    for path in patch.files.values():
      try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
          raise FileNotFoundError
      except OSError:
        problems.append(f"{path}: expected a GeoTIFF file, found none")
      else:
        statuses.append((status.st_size, status.st_mtime_ns))
  return statuses, problems


def find_shapes(sources: Sequence[SplitSource], schema: Schema) -> Shapes:
  """Finds sensor or column of labels -> (h, w, c), from the first files.

  Raises:
    InputError: the labels of two columns differ in size.
  """
  shapes = {}
  for column in (*schema.sensors, *schema.label_columns):
    num_bands = columns.num_bands(schema, column)
    header = _first_header(sources, column, num_bands)
    if header is not None:
      is_sensor = column in schema.sensors
      shapes[column] = (
        header.georeference.height,
        header.georeference.width,
        num_bands if is_sensor else header.num_bands,
      )
  sizes = {x: shapes[x][:2] for x in schema.label_columns if x in shapes}
  if len(set(sizes.values())) > 1:
    raise InputError(
      "labels",
      "one height and width (a data set for each size otherwise)",
      ", ".join(f"{name} {h} x {w}" for name, (h, w) in sizes.items()),
    )
  return shapes


def describe_lacking(shapes: Shapes, schema: Schema) -> list[str]:
  """Lists columns whose files lack bands of tasks, and these tasks."""
  lines = []
  for column, tasks in schema.label_columns.items():
    if column not in shapes:
      continue
    number = shapes[column][2]
    if missing := [task.id for task in tasks if task.band >= number]:
      lines.append(
        f"{column}: {number} of {tasks[0].num_bands} bands, without "
        f"{', '.join(missing)}"
      )
  return lines


def _first_header(
  sources: Sequence[SplitSource], column: str, num_bands: int
) -> geotiff.RasterHeader | None:
  for source in sources:
    if column not in source.split.cells:
      continue
    for row in range(len(source.split)):
      path = source.split.file(column, row)
      if path:
        try:
          return geotiff.read_header(path, num_bands)
        except InputError:
          # Reported with all other faults when its patch is read.
          continue
  return None
