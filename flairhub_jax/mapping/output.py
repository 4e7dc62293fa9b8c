"""Files of a map: Cloud-Optimized GeoTIFFs."""

import contextlib
import os
import pathlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
import rasterio.errors
import rasterio.shutil

from flairhub_jax import atomic
from flairhub_jax.errors import RunError
from flairhub_jax.mapping import layers, style
from flairhub_jax.mapping.grid import Grid
from flairhub_jax.schema import LabelTask

# Tag of the digest of all that determines a map.
IDENTITY = "FLAIRHUB_MAP"


def write_classes(
  raw: pathlib.Path,
  out: pathlib.Path,
  grid: Grid,
  task: LabelTask,
  tags: Mapping[str, str],
) -> None:
  """Writes a map of classes, with colours and names.

  Args:
    raw: of `store.Store`, [h w].
    out: the GeoTIFF.
    grid: of the map.
    task: its classes.
    tags: metadata.
  """
  bands = [(task.short_name, style.band_content(task))]
  _write(raw, out, grid, bands, tags, "MODE")


def write_shares(
  raw: pathlib.Path,
  out: pathlib.Path,
  grid: Grid,
  names: Sequence[str],
  tags: Mapping[str, str],
  dtype: str = "uint8",
) -> None:
  """Writes numbers of 0-1, a band each.

  Args:
    raw: of `store.Store`, [h n w].
    out: the GeoTIFF; the scale of its bands makes integers 0-1.
    grid: of the map.
    names: of the bands.
    tags: metadata.
    dtype: of the stored numbers, a key of `layers.NO_DATA`.
  """
  content = "<ColorInterp>Gray</ColorInterp>"
  if dtype == "uint8":
    content += f"<Scale>{1 / layers.STEPS:g}</Scale>"
  bands = [(name, content) for name in names]
  _write(raw, out, grid, bands, tags, "AVERAGE", dtype)


def _write(raw, out, grid, bands, tags, resampling, dtype="uint8") -> None:
  vrt = raw.with_suffix(".vrt")
  vrt.write_text(_vrt(raw, grid, bands, tags, dtype), encoding="utf-8")
  options = dict(
    COMPRESS="DEFLATE",
    LEVEL="6",
    BLOCKSIZE="512",
    BIGTIFF="IF_SAFER",
    OVERVIEW_RESAMPLING=resampling,
    NUM_THREADS="ALL_CPUS",
  )
  if dtype == "float32":
    options["PREDICTOR"] = "FLOATING_POINT"
  side = out.with_name(out.name + ".aux.xml")
  with atomic.write_aside(out) as aside, warnings.catch_warnings():
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    aside_side = aside.with_name(aside.name + ".aux.xml")
    try:
      rasterio.shutil.copy(str(vrt), str(aside), driver="COG", **options)
      if aside_side.exists():
        os.replace(aside_side, side)
    except rasterio.errors.RasterioError as error:
      reason = error.__cause__ or error
      raise RunError(f"{out}: cannot be written: {reason}") from error
    finally:
      aside_side.unlink(missing_ok=True)


def _vrt(raw, grid, bands, tags, dtype) -> str:
  """A virtual raster of a raw file whose rows hold all bands."""
  place = ""
  if grid.crs is not None:
    place = f"<SRS>{escape(grid.crs)}</SRS>"
  if grid.is_placed:
    t = grid.transform
    numbers = ", ".join(repr(float(x)) for x in (t.c, t.a, t.b, t.f, t.d, t.e))
    place += f"<GeoTransform>{numbers}</GeoTransform>"
  metadata = "".join(
    f"<MDI key={quoteattr(key)}>{escape(value)}</MDI>"
    for key, value in tags.items()
  )
  kind = {"uint8": "Byte", "float32": "Float32"}[dtype]
  size = np.dtype(dtype).itemsize
  line = size * grid.width
  order = "LSB" if sys.byteorder == "little" else "MSB"
  rows = "".join(
    f'<VRTRasterBand dataType="{kind}" band="{i + 1}"'
    ' subClass="VRTRawRasterBand">'
    f"<Description>{escape(name)}</Description>"
    f"<NoDataValue>{layers.NO_DATA[dtype]:g}</NoDataValue>{content}"
    f'<SourceFilename relativeToVRT="1">{escape(raw.name)}</SourceFilename>'
    f"<ImageOffset>{i * line}</ImageOffset><PixelOffset>{size}</PixelOffset>"
    f"<LineOffset>{len(bands) * line}</LineOffset>"
    f"<ByteOrder>{order}</ByteOrder></VRTRasterBand>"
    for i, (name, content) in enumerate(bands)
  )
  return (
    f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">'
    f"{place}<Metadata>{metadata}</Metadata>{rows}</VRTDataset>"
  )


@contextlib.contextmanager
def open_map(path: pathlib.Path) -> Iterator[rasterio.DatasetReader]:
  """Opens a layer of a map, which may lie nowhere on the ground."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    raster = rasterio.open(path)
  with raster:
    yield raster


def read_grid(path: pathlib.Path) -> Grid:
  """Grid of a layer of a map."""
  with open_map(path) as raster:
    crs = raster.crs.to_wkt() if raster.crs else None
    return Grid(crs, raster.transform, *raster.shape)


def read_tags(path: pathlib.Path) -> dict[str, str]:
  """Metadata of a layer of a map."""
  with open_map(path) as raster:
    return dict(raster.tags())


def read_identity(path: pathlib.Path) -> str | None:
  """The identity of an existing map; None if the file has none."""
  try:
    return read_tags(path).get(IDENTITY)
  except rasterio.errors.RasterioError:
    return None


def read_small(path: pathlib.Path, max_size: int = 1200) -> np.ndarray:
  """Classes of a map on at most `max_size` rows and columns: uint8 [h w]."""
  with open_map(path) as raster:
    scale = max(1.0, max(raster.shape) / max_size)
    shape = tuple(max(1, round(size / scale)) for size in raster.shape)
    return raster.read(1, out_shape=shape)
