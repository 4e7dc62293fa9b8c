"""Rasters that are open or in memory, read as the files of a `Mosaic` are."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rasterio
import rasterio.crs
import rasterio.errors
import rasterio.io
import rasterio.vrt
import rasterio.windows
from rasterio import Affine

from flairhub_jax.data import geotiff
from flairhub_jax.errors import InputError, RunError
from flairhub_jax.mapping.grid import Grid

# First row, first column, rows and columns within the raster -> values
# [h w c], and bool [h w c], True without data.
_Read = Callable[[int, int, int, int], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class OpenRaster:
  """A raster with the interface of `Mosaic`, which the caller closes.

  Attributes:
    grid: its pixels.
    num_bands: of all dates.
    dtype: of the values.
    inner: reads a block within the raster.
    tiles: none, as there are no files.
    notes: none.
    unreadable: none.
    conversion: none, values are as the sensor stores them.
  """

  grid: Grid
  num_bands: int
  dtype: np.dtype
  inner: _Read
  tiles: tuple[Any, ...] = ()
  notes: tuple[str, ...] = ()
  unreadable: tuple[Any, ...] = ()
  conversion: None = None

  def read(
    self, row: int, col: int, height: int, width: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Reads a block, which may reach beyond the raster; see `Mosaic.read`."""
    top, left = max(row, 0), max(col, 0)
    bottom = min(row + height, self.grid.height)
    right = min(col + width, self.grid.width)
    if (bottom - top, right - left) == (height, width):
      return self.inner(row, col, height, width)
    shape = (height, width, self.num_bands)
    values, missing = np.zeros(shape, self.dtype), np.ones(shape, bool)
    if top < bottom and left < right:
      part = np.s_[top - row : bottom - row, left - col : right - col]
      block = self.inner(top, left, bottom - top, right - left)
      # As in tiles: values without data do not count.
      np.copyto(values[part], block[0], where=~block[1])
      missing[part] = block[1]
    return values, missing

  def close(self) -> None:
    """Does nothing: the caller opened it."""


def of_array(
  where: str,
  values: Any,
  *,
  is_series: bool,
  transform: Any,
  crs: Any,
  no_data: Sequence[float] = (),
) -> OpenRaster:
  """An array as a raster.

  Args:
    where: names it in errors.
    values: [h w c], or [t h w c] of a series.
    is_series: which of both.
    transform: from column and row to coordinates.
    crs: what rasterio takes for a coordinate system; None: unknown.
    no_data: values that mark missing measurements.

  Raises:
    InputError: another number of axes, no number, or an unknown CRS.
  """
  values = np.asarray(values)
  axes = "[t h w bands]" if is_series else "[h w bands]"
  if values.ndim != 3 + is_series or 0 in values.shape:
    raise InputError(where, f"an array {axes}", f"the shape {values.shape}")
  if values.dtype.kind not in "uif":
    raise InputError(where, "an array of numbers", f"type {values.dtype}")
  height, width, bands = values.shape[-3:]

  def read(row, col, rows, columns):
    block = values[..., row : row + rows, col : col + columns, :]
    if is_series:
      block = np.moveaxis(block, 0, 2).reshape(rows, columns, -1)
    else:
      block = block.copy()
    missing = np.zeros(block.shape, bool)
    for value in no_data:
      missing |= np.isnan(block) if math.isnan(value) else block == value
    if block.dtype.kind == "f":
      missing |= ~np.isfinite(block)
    return block, missing

  return OpenRaster(
    Grid(_wkt(where, crs), _affine(where, transform), height, width),
    bands * (len(values) if is_series else 1),
    values.dtype,
    read,
  )


def of_dataset(
  where: str, dataset: Any, *, num_bands: int, no_data: float | None
) -> OpenRaster:
  """An open dataset of rasterio, read by windows.

  Args:
    where: names it in errors.
    dataset: the open dataset.
    num_bands: expected number of bands (per date), see `Mosaic`.
    no_data: see `Mosaic`.

  Raises:
    InputError: closed, or of values that are not the measured ones.
  """
  if dataset.closed:
    raise InputError(where, "an open dataset", "a closed one")
  geotiff.check_stored_values(where, dataset)
  number = dataset.count - geotiff.has_alpha(dataset, num_bands)

  def read(row, col, rows, columns):
    window = rasterio.windows.Window(col, row, columns, rows)
    try:
      bands = dataset.read(window=window)
      missing = geotiff.missing_values(
        dataset, bands, number, no_data=no_data, window=window
      )
    except (rasterio.errors.RasterioError, OSError) as error:
      raise RunError(f"{where}: cannot be read: {error}") from error
    if bands.dtype.kind == "f":
      missing |= ~np.isfinite(bands[:number])
    return np.moveaxis(bands[:number], 0, -1), np.moveaxis(missing, 0, -1)

  return OpenRaster(
    Grid(
      _wkt(where, dataset.crs),
      dataset.transform,
      dataset.height,
      dataset.width,
    ),
    number,
    np.dtype(dataset.dtypes[0]),
    read,
  )


def is_dataset(raster: Any) -> bool:
  """Whether it is an open dataset of rasterio."""
  kinds = rasterio.io.DatasetReader | rasterio.vrt.WarpedVRT
  return isinstance(raster, kinds)


def is_data_array(raster: Any) -> bool:
  """Whether it is an array of xarray, which is not imported for that."""
  return hasattr(raster, "dims") and hasattr(raster, "values")


def of_data_array(
  where: str, array: Any, *, is_series: bool, no_data: float | None
) -> OpenRaster:
  """An array of xarray with the accessor of rioxarray.

  Args:
    where: names it in errors.
    array: with axes of bands, rows and columns, and of dates before them for a
      series, in any order: rows and columns are those of `.rio`; dates are
      `time`.
    is_series: whether it has dates.
    no_data: see `Mosaic`.

  Raises:
    InputError: no `.rio`, or other axes.
  """
  place = getattr(array, "rio", None)
  if place is None:
    raise InputError(where, "a DataArray with .rio: import rioxarray", "none")
  ground = (place.y_dim, place.x_dim)
  others = [name for name in array.dims if name not in ground]
  dates = [name for name in others if is_series and name == "time"]
  bands = [name for name in others if name not in dates]
  if len(dates) != is_series or len(bands) != 1:
    axes = "time, bands, rows" if is_series else "bands, rows"
    found = ", ".join(map(str, array.dims))
    raise InputError(where, f"axes of {axes} and columns", found)
  own = getattr(place, "nodata", None)
  return of_array(
    where,
    array.transpose(*dates, *ground, *bands).values,
    is_series=is_series,
    transform=place.transform(),
    crs=place.crs,
    no_data=[value for value in (own, no_data) if value is not None],
  )


def _affine(where: str, transform: Any) -> Affine:
  try:
    return Affine(*tuple(transform)[:6])
  except (TypeError, ValueError) as error:
    raise InputError(where, "a transform of six numbers", transform) from error


def _wkt(where: str, crs: Any) -> str | None:
  if not crs:
    return None
  try:
    return rasterio.crs.CRS.from_user_input(crs).to_wkt()
  except rasterio.errors.CRSError as error:
    raise InputError(where, "a coordinate system", repr(crs)) from error
