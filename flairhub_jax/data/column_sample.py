"""A sample of the files of one column of a split CSV."""

import dataclasses
import math
import os
import pathlib
import re
import tempfile
from collections.abc import Sequence

import numpy as np

from flairhub_jax.data import dates, geotiff, ground_units, split_csv

# Files of a column that are read, evenly spaced over its rows.
SAMPLE = 100

_LABEL_WORDS = re.compile(r"label|lpis|cosia|class|truth|annot|target|(^|_)gt")
_MASK_WORDS = re.compile(r"msk|mask|cloud|scl|quality|qa")
_DEFAULT_GSD = 1.0


@dataclasses.dataclass
class Column:
  """A column and some of its files.

  Attributes:
    name: of the column.
    paths: files of the sample.
    headers: their headers.
    band_names: names of the bands in the first file; "" without a name.
    colormap: value -> `#rrggbb` of the first file.
    num_dates: of a series, dates of each file according to the metadata.
  """

  name: str
  paths: list[str]
  headers: list[geotiff.RasterHeader]
  band_names: tuple[str, ...]
  colormap: dict[int, str]
  num_dates: list[int] | None = None

  @property
  def is_named_label(self) -> bool:
    """Whether the name is that of labels."""
    return bool(_LABEL_WORDS.search(self.name.lower()))

  @property
  def is_named_mask(self) -> bool:
    """Whether the name is that of a quality mask."""
    return bool(_MASK_WORDS.search(self.name.lower()))


def find_metadata(csv: pathlib.Path) -> pathlib.Path | None:
  """Returns the folder of the files of dates beside a CSV, if any."""
  for folder in pathlib.Path(os.path.abspath(csv)).parents[:3]:
    if (folder / "GLOBAL_ALL_MTD").is_dir():
      return folder / "GLOBAL_ALL_MTD"
  return None


def read_column(
  split: split_csv.Split, column: str, metadata: pathlib.Path | None
) -> Column:
  """Reads the headers of a sample of the files of a column.

  Raises:
    InputError: a file cannot be read.
  """
  rows = [row for row, cell in enumerate(split.cells[column]) if cell]
  rows = [rows[i] for i in _evenly(len(rows), SAMPLE)]
  paths = [split.file(column, row) for row in rows]
  headers = [geotiff.read_header(path) for path in paths]
  names, colormap = geotiff.read_band_names(paths[0]) if paths else ((), {})
  result = Column(column, paths, headers, names, colormap)
  file = find_dates(column, metadata)
  if file is not None and paths:
    with tempfile.TemporaryDirectory() as cache:
      ids = [split.patch_ids[row] for row in rows]
      days = dates.read_dates(metadata / file, ids, cache=cache)
    result.num_dates = [len(each) for each in days]
  return result


def _evenly(number: int, limit: int) -> Sequence[int]:
  if number <= limit:
    return range(number)
  return np.linspace(0, number - 1, limit).round().astype(int).tolist()


def find_dates(column: str, metadata: pathlib.Path | None) -> str | None:
  """Returns the name of the file of dates of a column, if any."""
  stem = column.removesuffix("_TS").lower()
  if metadata is None:
    return None
  for path in sorted(metadata.iterdir()):
    if path.suffix not in (".gpkg", ".csv"):
      continue
    own = path.stem.lower().removeprefix("global_").removesuffix("_mtd_dates")
    if own.removesuffix("_dates").removesuffix("_ts") == stem:
      return path.name
  return None


def find_gsd(column: Column, extent: float | None, guesses: list[str]) -> float:
  """Returns the ground sampling distance in metres.

  Args:
    column: a column.
    extent: width of a patch on the ground in metres, for files without a
      georeference; None: unknown.
    guesses: receives a line per assumption.
  """
  known = known_gsd(column)
  if known is None:
    width = column.headers[0].georeference.width
    size = _DEFAULT_GSD if extent is None else rounded(extent / width)
    source = "an assumption" if extent is None else "the extent of other files"
    guesses.append(
      f"{column.name}, gsd: the files have no georeference in metres or"
      f" degrees; {size:g} m is {source}"
    )
    return size
  sizes = list(filter(None, map(_pixel_size, column.headers)))
  if max(sizes) / min(sizes) > 1.02:
    guesses.append(
      f"{column.name}, gsd: files have {min(sizes):.4g} to {max(sizes):.4g} m;"
      f" the median {known:g} is taken"
    )
  return known


def find_extent(columns: Sequence[Column]) -> float | None:
  """Returns the median width of a patch on the ground, in metres, if known."""
  widths = [
    size * column.headers[0].georeference.width
    for column in columns
    if (size := known_gsd(column)) is not None
  ]
  return float(np.median(widths)) if widths else None


def known_gsd(column: Column) -> float | None:
  """Returns the median pixel size of the files that have one, in metres."""
  sizes = list(filter(None, map(_pixel_size, column.headers)))
  return rounded(float(np.median(sizes))) if sizes else None


def rounded(value: float) -> float:
  """Returns a number with five digits."""
  return float(f"{value:.5g}")


def _pixel_size(header: geotiff.RasterHeader) -> float | None:
  place = header.georeference
  if place.crs is None:
    return None
  a, _, _, d, _, north = place.transform
  metres = ground_units.metres_per_unit(place.crs, north)
  return metres and math.hypot(a * metres[0], d * metres[1])
