"""Checked reading and atomic writing of georeferenced rasters."""

import dataclasses
import os
import warnings
from typing import TypeAlias

import numpy as np
import rasterio
import rasterio.control
import rasterio.enums
import rasterio.errors
import rasterio.transform
import rasterio.vrt
import rasterio.windows
from jaxtyping import Bool, Num

from flairhub_jax import atomic
from flairhub_jax.errors import InputError

# A raster that would need more memory than this is rejected before reading.
MAX_BYTES = 2 << 30

# An open raster, in its own coordinate system or warped to another one.
Raster: TypeAlias = rasterio.DatasetReader | rasterio.vrt.WarpedVRT

_COLOUR_BANDS = {
  rasterio.enums.ColorInterp.red: "R",
  rasterio.enums.ColorInterp.green: "G",
  rasterio.enums.ColorInterp.blue: "B",
}


@dataclasses.dataclass(frozen=True)
class Georeference:
  """Georeference of a raster.

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
    """Returns the same ground extent on a grid of another size."""
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
  """The header of a raster file."""

  georeference: Georeference
  num_bands: int
  dtype: str
  nodata: float | None
  # Of each band, as the file names it; None without a name.
  descriptions: tuple[str | None, ...] = ()


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


def _header(
  path: str | os.PathLike,
  raster: rasterio.DatasetReader,
  num_bands: int | None,
) -> RasterHeader:
  """Reads and checks the header; excludes an alpha band from the count."""
  check_stored_values(path, raster)
  crs, transform = raster.crs, raster.transform
  points, points_crs = raster.gcps
  if not crs and points:
    crs, transform = points_crs, _fit_points(path, points)
  return RasterHeader(
    Georeference(
      crs=crs.to_wkt() if crs else None,
      transform=tuple(transform)[:6],
      height=raster.height,
      width=raster.width,
    ),
    num_bands=raster.count - has_alpha(raster, num_bands),
    dtype=raster.dtypes[0],
    nodata=raster.nodata,
    descriptions=tuple(raster.descriptions),
  )


def check_stored_values(
  path: str | os.PathLike,
  raster: Raster,
  *,
  allow_scale: bool = False,
  remedy: str = "",
) -> None:
  """Checks that all bands hold measured values of one type.

  Args:
    path: names the raster in errors.
    raster: the open raster.
    allow_scale: whether bands may have a scale and an offset, which the caller
      treats.
    remedy: what the user can do about a scale, for the error.

  Raises:
    InputError: bands of several types, complex numbers, a scale or an offset.
  """
  types = set(raster.dtypes)
  # Compare names: NumPy lacks GDAL's complex integer types.
  if len(types) > 1 or not min(types).startswith(("uint", "int", "float")):
    raise InputError(
      path,
      "bands of one type, whole or floating-point numbers",
      ", ".join(sorted(types)),
    )
  is_scaled = any(s != 1 for s in raster.scales)
  if not allow_scale and (is_scaled or any(o != 0 for o in raster.offsets)):
    raise InputError(
      path,
      "stored values that are the measured ones (scale 1, offset 0)",
      f"scale {_first_other(raster.scales, 1):g}, "
      f"offset {_first_other(raster.offsets, 0):g}{remedy}",
    )


def _first_other(numbers: tuple[float, ...], usual: float) -> float:
  return next((number for number in numbers if number != usual), usual)


def _fit_points(
  path: str | os.PathLike, points: list[rasterio.control.GroundControlPoint]
) -> rasterio.Affine:
  """Returns the affine transform on which all ground control points lie."""
  if len(points) >= 3:
    transform = rasterio.transform.from_gcps(points)
    a, b, c, d, e, f = transform[:6]
    step = max(map(abs, (a, b, d, e)))
    errors = [
      max(
        abs(a * point.col + b * point.row + c - point.x),
        abs(d * point.col + e * point.row + f - point.y),
      )
      for point in points
    ]
    if max(errors) <= 0.5 * step:
      return transform
  raise InputError(
    path,
    "a geotransform, or at least three ground control points that lie on one "
    "within half a pixel",
    f"{len(points)} ground control points that do not",
  )


def has_alpha(raster: Raster, num_bands: int | None) -> bool:
  """Returns whether the last band is an alpha band, not a measurement.

  Some writers mark the fourth band of any RGB image as alpha, even if it is
  near infrared: it counts as alpha only if it exceeds the expected bands.

  Args:
    raster: the open raster.
    num_bands: expected number of bands (per date); None: no band is alpha.
  """
  alpha = rasterio.enums.ColorInterp.alpha
  if num_bands is None or raster.colorinterp[-1] != alpha:
    return False
  surplus = raster.count % num_bands == 1 or raster.count == num_bands + 1
  return raster.count > num_bands and surplus


def read_header(
  path: str | os.PathLike, num_bands: int | None = None
) -> RasterHeader:
  """Returns the size, bands, type and georeference without reading pixels.

  Args:
    path: the file.
    num_bands: expected number of bands (per date); an additional alpha band is
      not counted.

  Raises:
    InputError: the file is missing, is no GeoTIFF, holds complex numbers, or
      has a scale or offset.
  """
  with _open(path) as raster:
    return _header(path, raster, num_bands)


def read_band_names(
  path: str | os.PathLike,
) -> tuple[tuple[str, ...], dict[int, str]]:
  """Returns names of bands and colours of values, as far as the file has them.

  Args:
    path: the file.

  Returns:
    The description of each band, or R, G, B of its colour interpretation, or
    ""; and value -> `#rrggbb` of the colour table of the first band.

  Raises:
    InputError: see `read_header`.
  """
  with _open(path) as raster:
    names = tuple(
      (text or _COLOUR_BANDS.get(kind, "")).strip()
      for text, kind in zip(
        raster.descriptions, raster.colorinterp, strict=True
      )
    )
    try:
      table = raster.colormap(1)
    except ValueError:  # none
      table = {}
  colours = {value: f"#{bytes(c[:3]).hex()}" for value, c in table.items()}
  return names, colours


def read_raster(
  path: str | os.PathLike,
) -> tuple[np.ndarray, RasterHeader]:
  """Reads all bands of a GeoTIFF.

  Args:
    path: the file.

  Returns:
    Values [h w c] in the stored type, and the header. In a floating-point
    raster, pixels without data are NaN.

  Raises:
    InputError: for the same reasons as in `read_measurements`.
  """
  values, _, header = read_measurements(path)
  return values, header


def read_measurements(
  path: str | os.PathLike,
  num_bands: int | None = None,
  no_data: float | None = None,
) -> tuple[np.ndarray, np.ndarray | None, RasterHeader]:
  """Reads all bands of a GeoTIFF and a mask of its no-data values.

  Args:
    path: the file.
    num_bands: expected number of bands (per date), see `read_header`.
    no_data: another value that marks missing data, besides the file's own.

  Returns:
    Values [h w c] in the stored type; bool [h w c], True where a no-data value,
    or the mask or alpha band of the file marks missing data (None: nowhere);
    and the header. In a floating-point raster such values are NaN.

  Raises:
    InputError: the file is missing, truncated, no GeoTIFF, larger than
      `MAX_BYTES`, or rejected by `read_header`.
  """
  with _open(path) as raster:
    header = _header(path, raster, num_bands)
    size = raster.count * raster.height * raster.width
    num_bytes = size * np.dtype(header.dtype).itemsize
    if num_bytes > MAX_BYTES:
      raise InputError(
        path, f"at most {MAX_BYTES} bytes of pixels", f"{num_bytes}"
      )
    try:
      bands = raster.read()
      missing = missing_values(raster, bands, header.num_bands, no_data=no_data)
    except rasterio.errors.RasterioError as error:
      # The outer message is only "Read failed. See previous exception".
      raise InputError(
        path, "a readable GeoTIFF", error.__cause__ or error
      ) from error
  values = np.moveaxis(bands[: header.num_bands], 0, -1)
  missing = np.moveaxis(missing, 0, -1)
  if not missing.any():
    return values, None, header
  if np.issubdtype(values.dtype, np.floating):
    values[missing] = np.nan
  return values, missing, header


def missing_values(
  raster: Raster,
  bands: Num[np.ndarray, "n h w"],
  num_bands: int,
  *,
  no_data: float | None = None,
  window: rasterio.windows.Window | None = None,
) -> Bool[np.ndarray, "c h w"]:
  """Returns the mask of the values without data.

  Args:
    raster: the open raster.
    bands: all its bands, with an alpha band.
    num_bands: number of bands without an alpha band.
    no_data: another value that marks missing data, besides the file's own.
    window: part of the raster that `bands` holds; None: the whole.
  """
  missing = np.zeros((num_bands, *bands.shape[1:]), bool)
  for i, nodata in enumerate(raster.nodatavals[:num_bands]):
    if nodata is not None:
      missing[i] = bands[i] == nodata
  flags = raster.mask_flag_enums[0]
  masks = rasterio.enums.MaskFlags
  if masks.per_dataset in flags and masks.alpha not in flags:
    missing |= raster.read_masks(1, window=window) == 0
  if num_bands < raster.count:
    missing |= bands[-1] == 0
  if no_data is not None:
    missing |= bands[:num_bands] == no_data
  return missing


def write_raster(
  path: str | os.PathLike,
  values: np.ndarray,
  georeference: Georeference,
  *,
  palette: np.ndarray | None = None,
  description: str | None = None,
) -> None:
  """Writes a deflate-compressed GeoTIFF atomically.

  Args:
    path: the file; its folder must exist.
    values: [h w] or [h w c].
    georeference: CRS, transform and size; the size must match `values`.
    palette: uint8 [k 3], colour of each value of a one-band uint8 raster, so
      that GIS viewers show the classes in colour.
    description: text for the file's description tag.

  Raises:
    InputError: `values` have another size than the georeference; GDAL would
      resample them silently.
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
