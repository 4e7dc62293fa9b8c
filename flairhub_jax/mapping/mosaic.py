"""Rasters of one sensor, read by windows: one file, or tiles of a region.

Tiles lie on one grid of pixels. Where they overlap, the first with data counts;
between them there is no data.
"""

import math
import pathlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
import rasterio.enums
import rasterio.errors
import rasterio.vrt
import rasterio.warp
import rasterio.windows

from flairhub_jax.data import geotiff
from flairhub_jax.errors import InputError, InputErrors, RunError
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping.conversion import Conversion
from flairhub_jax.mapping.grid import Grid
from flairhub_jax.mapping.remote import RemotePath
from flairhub_jax.mapping.tiles import (
  Tile,
  UnreadableError,
  crs_of,
  disagreements,
  on_common_grid,
  open_raster,
)

_MOST_OPEN = 64


class Mosaic:
  """Reads windows of the tiles of one sensor.

  Attributes:
    grid: pixels that hold all tiles.
    tiles: the files.
    num_bands: of a block.
    dtype: of its values.
    conversion: of the values of the files; None: they are as stored.
    unreadable: files that could not be read, if that is allowed.
    notes: warnings for the user.
  """

  def __init__(
    self,
    paths: Sequence[pathlib.Path | RemotePath],
    *,
    num_bands: int,
    no_data: float | None = None,
    target_crs: str | None = None,
    skips_errors: bool = False,
    scale_flag: str | None = "",
  ):
    """Reads the headers of all files.

    Args:
      paths: the files.
      num_bands: expected number of bands (per date); a surplus alpha band is
        not one of them.
      no_data: stored value of missing measurements, besides those declared.
      target_crs: coordinate system to which rasters of others are warped;
        None: they stay in their own.
      skips_errors: whether a file that cannot be read has no data instead of
        ending the run.
      scale_flag: of the command line, named in the error about files whose
        bands have a scale; None: the flag is given, and counts instead.

    Raises:
      InputErrors: files that cannot be read, or do not fit together.
    """
    self._no_data, self._target_crs = no_data, target_crs
    self._num_bands = num_bands  # per date
    self._skips_errors = skips_errors
    self._scale_flag = scale_flag
    self.conversion: Conversion | None = None
    self._rasters: OrderedDict[pathlib.Path | RemotePath, Any] = OrderedDict()
    self._warped_transform: rasterio.Affine | None = None
    self.unreadable: list[pathlib.Path | RemotePath] = []
    self.notes: list[str] = []
    tiles, problems = [], []
    for path in paths:
      try:
        tiles.append(self._header(path))
      except InputError as error:
        if skips_errors and isinstance(error, UnreadableError):
          self.unreadable.append(path)
        else:
          problems.append(str(error))
    problems += disagreements(tiles)
    if not tiles and not problems:
      problems = [str(InputError(paths[0], "a readable raster", "none"))]
    if problems:
      raise InputErrors(problems)
    self.grid, self.tiles, offset = on_common_grid(tiles)
    if offset > 0.02:
      self.notes.append(
        f"{paths[0]}: tiles are up to {offset:.2f} pixels off a common grid;"
        " the nearest is taken"
      )
    self.num_bands, self.dtype = tiles[0].num_bands, np.dtype(tiles[0].dtype)
    self._rows = np.array([(t.row, t.row + t.grid.height) for t in self.tiles])
    self._cols = np.array([(t.col, t.col + t.grid.width) for t in self.tiles])

  def read(
    self, row: int, col: int, height: int, width: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Reads a block, which may reach beyond all tiles.

    Returns:
      Values [h w c] in the stored type, and bool [h w c], True without data.

    Raises:
      RunError: a file is damaged.
    """
    indices = np.flatnonzero(
      (self._rows[:, 0] < row + height)
      & (self._rows[:, 1] > row)
      & (self._cols[:, 0] < col + width)
      & (self._cols[:, 1] > col)
    )
    if len(indices) == 1:
      tile = self.tiles[indices[0]]
      inner = row - tile.row, col - tile.col
      if min(inner) >= 0 and (
        inner[0] + height <= tile.grid.height
        and inner[1] + width <= tile.grid.width
      ):
        window = rasterio.windows.Window(inner[1], inner[0], width, height)
        block = self._read_tile(tile, window)
        if block is not None:
          return block
    shape = (height, width, self.num_bands)
    values, missing = np.zeros(shape, self.dtype), np.ones(shape, bool)
    for index in indices:
      tile = self.tiles[index]
      first = max(row, tile.row), max(col, tile.col)
      last = (
        min(row + height, tile.row + tile.grid.height),
        min(col + width, tile.col + tile.grid.width),
      )
      part = np.s_[
        first[0] - row : last[0] - row, first[1] - col : last[1] - col
      ]
      window = rasterio.windows.Window(
        first[1] - tile.col,
        first[0] - tile.row,
        last[1] - first[1],
        last[0] - first[0],
      )
      block = self._read_tile(tile, window)
      if block is not None:
        is_new = missing[part] & ~block[1]
        np.copyto(values[part], block[0], where=is_new)
        missing[part] &= block[1]
    return values, missing

  def convert(self, conversion: Conversion) -> None:
    """Selects and scales bands, here and in all blocks read from now on."""
    self.conversion = conversion
    self.num_bands = len(conversion.bands)
    self.dtype = conversion.dtype

  def close(self) -> None:
    """Closes all files."""
    while self._rasters:
      self._rasters.popitem()[1].close()

  def _read_tile(self, tile, window):
    if tile.path in self.unreadable:
      return None
    try:
      raster = self._raster(tile.path)
      bands = raster.read(window=window)
      missing = geotiff.missing_values(
        raster, bands, tile.num_bands, no_data=self._no_data, window=window
      )
    except (rasterio.errors.RasterioError, InputError, OSError) as error:
      line = f"{tile.path}: cannot be read: {error.__cause__ or error}"
      if not self._skips_errors:
        raise RunError(
          f"{line}; --skip-errors leaves its area without data"
        ) from error
      self.unreadable.append(tile.path)
      return None
    values = bands[: tile.num_bands]
    if np.issubdtype(values.dtype, np.floating):
      missing |= ~np.isfinite(values)
    if self.conversion is not None:
      values, missing = self.conversion.apply(values, missing)
    return np.moveaxis(values, 0, -1), np.moveaxis(missing, 0, -1)

  def _raster(self, path: pathlib.Path | RemotePath) -> Any:
    """The open file; the one unused for longest is closed."""
    if path in self._rasters:
      self._rasters.move_to_end(path)
      return self._rasters[path]
    raster = open_raster(path)
    if self._target_crs and not grids.is_same_crs(
      crs_of(raster), self._target_crs
    ):
      raster = self._warped(path, raster)
    self._rasters[path] = raster
    if len(self._rasters) > _MOST_OPEN:
      self._rasters.popitem(last=False)[1].close()
    return raster

  def _warped(self, path: pathlib.Path | RemotePath, raster: Any) -> Any:
    """The raster in the target system; all tiles get one grid of pixels."""
    if not raster.crs:
      raise InputError(path, "a CRS, to be warped", "none")
    is_marked = rasterio.enums.ColorInterp.alpha in raster.colorinterp
    if is_marked and not geotiff.has_alpha(raster, self._num_bands):
      # GDAL would take the measurements of this band for transparency.
      raise InputError(
        path, "no band of measurements marked as alpha, to be warped", "one"
      )
    options: dict[str, Any] = {}
    if self._warped_transform is not None:
      place = self._warped_transform
      bounds = rasterio.warp.transform_bounds(
        raster.crs, self._target_crs, *raster.bounds
      )
      grid = Grid(None, place, 1, 1)
      inverse = ~place
      left, top = grids.at(inverse, bounds[0], bounds[3])
      right, bottom = grids.at(inverse, bounds[2], bounds[1])
      row, col = math.floor(top), math.floor(left)
      options = {
        "transform": grid.part(row, col, 1, 1).transform,
        "width": math.ceil(right) - col,
        "height": math.ceil(bottom) - row,
      }
    warped = rasterio.vrt.WarpedVRT(
      raster,
      crs=self._target_crs,
      resampling=rasterio.enums.Resampling.nearest,
      add_alpha=raster.nodata is None and not is_marked,
      **options,
    )
    self._warped_transform = self._warped_transform or warped.transform
    return warped

  def _header(self, path: pathlib.Path | RemotePath) -> Tile:
    raster = self._raster(path)
    flag = self._scale_flag
    geotiff.check_stored_values(
      str(path),
      raster,
      allow_scale=flag is None,
      remedy=f"; {flag} multiplies the stored values instead" if flag else "",
    )
    has_alpha = _added_alpha(raster) or geotiff.has_alpha(
      raster, self._num_bands
    )
    return Tile(
      path=path,
      grid=Grid(crs_of(raster), raster.transform, raster.height, raster.width),
      row=0,
      col=0,
      dtype=raster.dtypes[0],
      num_bands=raster.count - has_alpha,
      names=tuple(name or "" for name in raster.descriptions),
      colours=tuple(colour.name for colour in raster.colorinterp),
    )


def _added_alpha(raster: geotiff.Raster) -> bool:
  """Whether warping added an alpha band."""
  if not isinstance(raster, rasterio.vrt.WarpedVRT):
    return False
  return raster.count > raster.src_dataset.count
