"""Files of a mosaic: how they are opened, and whether they fit together."""

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import rasterio
import rasterio.errors

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping import remote
from flairhub_jax.mapping.grid import Grid
from flairhub_jax.mapping.remote import RemotePath

# Drivers of GDAL by the end of a name; all other files are GeoTIFFs. No driver
# that reads elsewhere: VRTs are checked in `locate`.
_DRIVERS = {
  ".vrt": "VRT",
  ".jp2": "JP2OpenJPEG",
  ".png": "PNG",
  ".jpg": "JPEG",
  ".jpeg": "JPEG",
}
# Pixels by which a tile may be off the common grid.
_OFF_GRID = 0.5


@dataclasses.dataclass(frozen=True)
class Tile:
  """One file of a mosaic.

  Attributes:
    path: the file.
    grid: its pixels.
    row: of its first row in the mosaic.
    col: of its first column.
    dtype: of the stored values.
    num_bands: without an alpha band.
    names: of its bands, "" where it has none.
    colours: colour interpretation of its bands.
  """

  path: pathlib.Path | RemotePath
  grid: Grid
  row: int
  col: int
  dtype: str
  num_bands: int
  names: tuple[str, ...]
  colours: tuple[str, ...]


class UnreadableError(InputError):
  """A file that GDAL does not open."""


def open_raster(path: pathlib.Path | RemotePath) -> Any:
  """Opens a file with the driver of its name.

  Raises:
    UnreadableError: it cannot be read.
  """
  options: dict[str, Any] = {}
  if isinstance(path, RemotePath):
    name, options = path.gdal_name, remote.OPTIONS
  else:
    name = os.path.abspath(path)
  driver = _DRIVERS.get(path.suffix.lower(), "GTiff")
  try:
    with warnings.catch_warnings(), rasterio.Env(**options):
      warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
      return rasterio.open(name, driver=driver)
  except (rasterio.errors.RasterioError, OSError) as error:
    raise UnreadableError(path, "a readable raster", error) from error


def crs_of(raster: Any) -> str | None:
  """Coordinate system of an open raster as WKT."""
  return raster.crs.to_wkt() if raster.crs else None


def disagreements(tiles: Sequence[Tile]) -> list[str]:
  """Faults of tiles that cannot lie beside the first one."""
  problems: list[str] = []
  if len(tiles) < 2:
    return problems
  first = tiles[0]
  for tile in tiles[1:]:
    for expected, actual, quantity in (
      (first.num_bands, tile.num_bands, "bands"),
      (first.dtype, tile.dtype, "type"),
    ):
      if expected != actual:
        text = f"{quantity} {expected}, as {first.path} has"
        problems.append(str(InputError(tile.path, text, actual)))
    if not grids.is_same_crs(first.grid.crs, tile.grid.crs):
      names = grids.crs_name(first.grid.crs), grids.crs_name(tile.grid.crs)
      problems.append(
        str(InputError(tile.path, f"{names[0]} of {first.path}", names[1]))
      )
      continue
    t, u = first.grid.transform, tile.grid.transform
    size = max(tile.grid.height, tile.grid.width)
    pixel = max(abs(t.a), abs(t.e), abs(t.b), abs(t.d))
    difference = max(
      abs(x - y)
      for x, y in zip((t.a, t.b, t.d, t.e), (u.a, u.b, u.d, u.e), strict=True)
    )
    if difference * size > _OFF_GRID * pixel:
      problems.append(
        str(
          InputError(
            tile.path,
            f"pixels of {t.a:g} x {t.e:g}, as {first.path} has",
            f"{u.a:g} x {u.e:g}",
          )
        )
      )
  return problems


def on_common_grid(tiles: Sequence[Tile]) -> tuple[Grid, list[Tile], float]:
  """Common grid, tiles with their places in it, and how far they are off it."""
  first = tiles[0].grid
  inverse = ~first.transform
  offset = 0.0
  corners = []
  for tile in tiles:
    t = tile.grid.transform
    col, row = grids.at(inverse, t.c, t.f)
    offset = max(offset, abs(col - round(col)), abs(row - round(row)))
    corners.append((round(row), round(col)))
  top, left = (min(starts) for starts in zip(*corners, strict=True))
  mosaic = [
    dataclasses.replace(tile, row=row - top, col=col - left)
    for tile, (row, col) in zip(tiles, corners, strict=True)
  ]
  height = max(t.row + t.grid.height for t in mosaic)
  width = max(t.col + t.grid.width for t in mosaic)
  return first.part(top, left, height, width), mosaic, offset
