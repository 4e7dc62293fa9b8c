"""What identifies the rasters of a map, without reading them all.

A file that was changed in place has another time or size. One that took the
place of another with the same time and size, as copies can, has another header
or other bytes at its start, middle or end. A change of other bytes alone, by a
program that restores the time, is not recognised. Folders do not matter: a copy
that keeps names and times is the same. Rasters elsewhere have no times; their
headers and a sample of their values count.
"""

import hashlib
import pathlib
from typing import Any

from flairhub_jax.mapping import sample, vrt
from flairhub_jax.mapping.mosaic import Mosaic
from flairhub_jax.mapping.open_raster import OpenRaster
from flairhub_jax.mapping.remote import RemotePath
from flairhub_jax.mapping.tiles import Tile

# Ends of names of files beside a raster that say where it has data.
_BESIDE = ("", ".msk", ".aux.xml")
_NUM_BYTES = 1 << 14


def describe(mosaic: Mosaic | OpenRaster | None) -> Any:
  """Lists what identifies the files of a mosaic and their conversion.

  Args:
    mosaic: None has no files.

  Returns:
    Lists of text and numbers, for JSON.
  """
  if mosaic is None:
    return None
  files = [_files(tile) for tile in mosaic.tiles]
  content: dict[str, Any] = {
    "headers": [_header(tile) for tile in mosaic.tiles],
    "files": [
      [_file(path) for path in paths if isinstance(path, pathlib.Path)]
      for paths in files
    ],
    "conversion": repr(mosaic.conversion),
  }
  if any(isinstance(path, RemotePath) for paths in files for path in paths):
    values = sample.take(mosaic)
    content["sample"] = hashlib.sha256(values.tobytes()).hexdigest()
  return content


def _header(tile: Tile) -> list[Any]:
  grid = tile.grid
  place = [grid.crs, list(grid.transform)[:6], grid.height, grid.width]
  return [tile.path.name, *place, tile.dtype, tile.num_bands, list(tile.names)]


def _files(tile: Tile) -> list[pathlib.Path | RemotePath]:
  """A raster, and the files on which its values depend."""
  if isinstance(tile.path, RemotePath):
    return [tile.path]
  files: list[pathlib.Path | RemotePath] = [
    path
    for end in _BESIDE
    if (path := tile.path.with_name(tile.path.name + end)).is_file()
  ]
  if tile.path.suffix.lower() == ".vrt":
    files += vrt.check(tile.path, allow_remote=True)
  return files


def _file(path: pathlib.Path) -> list[Any]:
  """Name, size, time of change and a digest of some bytes of a file."""
  status = path.stat()
  sha256 = hashlib.sha256()
  with open(path, "rb") as file:
    last = max(status.st_size - _NUM_BYTES, 0)
    for start in (0, last // 2, last):
      file.seek(start)
      sha256.update(file.read(_NUM_BYTES))
  return [path.name, status.st_size, status.st_mtime_ns, sha256.hexdigest()]
