"""Georeferenced rasters: read with checks, written whole or not at all."""

import dataclasses
import os
import warnings

import numpy as np
import rasterio
import rasterio.errors
import rasterio.transform

from flairhub_jax import atomic
from flairhub_jax.errors import InputError

# A raster that would take more memory than this is refused before it is read.
MAX_BYTES = 2 << 30


@dataclasses.dataclass(frozen=True)
class Georeference:
  """Where a raster lies.

  Attributes:
    crs: coordinate system as WKT or `EPSG:n`; None if the file has none.
    transform: x = a*col + b*row + c, y = d*col + e*row + f, as (a, …, f).
    height: rows.
    width: columns.
  """

  crs: str | None
  transform: tuple[float, float, float, float, float, float]
  height: int
  width: int

  def on_grid(self, height: int, width: int) -> "Georeference":
    """The same ground, cut into other numbers of rows and columns."""
    a, b, c, d, e, f = self.transform
    rows, columns = self.height / height, self.width / width
    return Georeference(
      crs=self.crs,
      transform=(a * columns, b * rows, c, d * columns, e * rows, f),
      height=height,
      width=width,
    )


@dataclasses.dataclass(frozen=True)
class RasterHeader:
  """What a file says of itself before its pixels are read."""

  georeference: Georeference
  num_bands: int
  dtype: str
  nodata: float | None


def _open(path: str | os.PathLike) -> rasterio.DatasetReader:
  if not os.path.isfile(path):
    raise InputError(path, "a GeoTIFF file", "no file of that name")
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
      # Only the GeoTIFF driver: a path in a CSV must not become a network
      # request or a virtual format that reads other files.
      return rasterio.open(os.path.abspath(path), driver="GTiff")
  except rasterio.errors.RasterioError as error:
    raise InputError(path, "a readable GeoTIFF", error) from error


def _header(raster: rasterio.DatasetReader) -> RasterHeader:
  return RasterHeader(
    Georeference(
      crs=raster.crs.to_wkt() if raster.crs else None,
      transform=tuple(raster.transform)[:6],
      height=raster.height,
      width=raster.width,
    ),
    num_bands=raster.count,
    dtype=raster.dtypes[0],
    nodata=raster.nodata,
  )


def read_header(path: str | os.PathLike) -> RasterHeader:
  """Returns size, bands, type and place of a file without its pixels.

  Raises:
    InputError: the file is missing or no GeoTIFF.
  """
  with _open(path) as raster:
    return _header(raster)


def read_raster(
  path: str | os.PathLike,
) -> tuple[np.ndarray, RasterHeader]:
  """Reads all bands of a GeoTIFF.

  Args:
    path: the file.

  Returns:
    Values [h w c] in the stored type, and the header. In a floating-point
    raster the declared no-data value becomes NaN.

  Raises:
    InputError: missing, truncated, no GeoTIFF, or larger than `MAX_BYTES`.
  """
  with _open(path) as raster:
    header = _header(raster)
    size = raster.count * raster.height * raster.width
    num_bytes = size * np.dtype(header.dtype).itemsize
    if num_bytes > MAX_BYTES:
      raise InputError(
        path, f"at most {MAX_BYTES} bytes of pixels", f"{num_bytes}"
      )
    try:
      values = raster.read()
    except rasterio.errors.RasterioError as error:
      # The outer message is only "Read failed. See previous exception".
      raise InputError(
        path, "a readable GeoTIFF", error.__cause__ or error
      ) from error
  if header.nodata is not None and np.issubdtype(values.dtype, np.floating):
    values[values == header.nodata] = np.nan
  return np.moveaxis(values, 0, -1), header


def write_raster(
  path: str | os.PathLike,
  values: np.ndarray,
  georeference: Georeference,
  *,
  palette: np.ndarray | None = None,
  description: str | None = None,
) -> None:
  """Writes a deflate-compressed GeoTIFF, whole or not at all.

  Args:
    path: the file; its folder must exist.
    values: [h w] or [h w c].
    georeference: CRS and transform; its size must be that of `values`.
    palette: uint8 [k 3], colour of each value of a one-band uint8 raster, so
      that viewers show classes at once.
    description: text for the file's description tag.

  Raises:
    InputError: `values` have another size; GDAL would resample them silently.
  """
  size = (georeference.height, georeference.width)
  if values.shape[:2] != size:
    raise InputError(
      path,
      f"values of {size[0]} x {size[1]} pixels, the size of its grid",
      " x ".join(map(str, values.shape[:2])),
    )
  bands = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
  profile = dict(
    driver="GTiff",
    dtype=values.dtype,
    count=bands.shape[0],
    height=georeference.height,
    width=georeference.width,
    crs=georeference.crs,
    transform=rasterio.Affine(*georeference.transform),
    compress="deflate",
    interleave="pixel" if bands.shape[0] <= 4 else "band",
  )
  with atomic.write_aside(path) as aside, warnings.catch_warnings():
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    with rasterio.open(aside, "w", **profile) as raster:
      raster.write(np.ascontiguousarray(bands))
      if palette is not None:
        colours = {i: (*map(int, rgb), 255) for i, rgb in enumerate(palette)}
        raster.write_colormap(1, colours)
      if description is not None:
        raster.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)
