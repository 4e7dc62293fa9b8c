"""Files of a map: Cloud-Optimized GeoTIFFs and styles of QGIS."""

import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
import rasterio.errors
import rasterio.shutil

from flairhub_jax import atomic
from flairhub_jax.errors import RunError
from flairhub_jax.mapping.engine import PROBABILITY_STEPS
from flairhub_jax.mapping.grid import Grid
from flairhub_jax.schema import NO_LABEL, LabelTask

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
  palette = np.zeros((256, 4), int)
  palette[: task.num_classes, :3] = task.palette
  palette[: task.num_classes, 3] = 255
  entries = "".join(
    f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{a}"/>' for r, g, b, a in palette
  )
  names = "".join(
    f"<Category>{escape(name)}</Category>" for name in task.class_names
  )
  band = (
    "<ColorInterp>Palette</ColorInterp>"
    f"<CategoryNames>{names}</CategoryNames>"
    f"<ColorTable>{entries}</ColorTable>"
  )
  _write(raw, out, grid, [(task.short_name, band)], tags, "MODE")


def write_probabilities(
  raw: pathlib.Path,
  out: pathlib.Path,
  grid: Grid,
  names: Sequence[str],
  tags: Mapping[str, str],
) -> None:
  """Writes probabilities, a band each; the scale of the file makes them 0-1.

  Args:
    raw: of `store.Store`, [h n w].
    out: the GeoTIFF.
    grid: of the map.
    names: of the bands.
    tags: metadata.
  """
  scale = f"<Scale>{1 / PROBABILITY_STEPS:g}</Scale>"
  gray = "<ColorInterp>Gray</ColorInterp>"
  bands = [(name, gray + scale) for name in names]
  _write(raw, out, grid, bands, tags, "AVERAGE")


def _write(raw, out, grid, bands, tags, resampling) -> None:
  vrt = raw.with_suffix(".vrt")
  vrt.write_text(_vrt(raw, grid, bands, tags), encoding="utf-8")
  options = dict(
    COMPRESS="DEFLATE",
    LEVEL="6",
    BLOCKSIZE="512",
    BIGTIFF="IF_SAFER",
    OVERVIEW_RESAMPLING=resampling,
    NUM_THREADS="ALL_CPUS",
  )
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


def _vrt(raw, grid, bands, tags) -> str:
  """A virtual raster of a raw file whose rows hold all bands."""
  count = len(bands)
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
  rows = "".join(
    f'<VRTRasterBand dataType="Byte" band="{i + 1}"'
    ' subClass="VRTRawRasterBand">'
    f"<Description>{escape(name)}</Description>"
    f"<NoDataValue>{NO_LABEL}</NoDataValue>{content}"
    f'<SourceFilename relativeToVRT="1">{escape(raw.name)}</SourceFilename>'
    f"<ImageOffset>{i * grid.width}</ImageOffset><PixelOffset>1</PixelOffset>"
    f"<LineOffset>{count * grid.width}</LineOffset></VRTRasterBand>"
    for i, (name, content) in enumerate(bands)
  )
  return (
    f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">'
    f"{place}<Metadata>{metadata}</Metadata>{rows}</VRTDataset>"
  )


def read_identity(path: pathlib.Path) -> str | None:
  """The identity of an existing map; None if the file has none."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
      with rasterio.open(path) as raster:
        return raster.tags().get(IDENTITY)
  except rasterio.errors.RasterioError:
    return None


def read_small(path: pathlib.Path, max_size: int = 1200) -> np.ndarray:
  """Classes of a map on at most `max_size` rows and columns: uint8 [h w]."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    with rasterio.open(path) as raster:
      scale = max(1.0, max(raster.shape) / max_size)
      shape = tuple(max(1, round(size / scale)) for size in raster.shape)
      return raster.read(1, out_shape=shape)


def write_style(out: pathlib.Path, task: LabelTask) -> None:
  """Writes a style of QGIS with the colours and names of the classes."""
  entries = "".join(
    f'<paletteEntry value="{value}" color="{each.colour}" alpha="255"'
    f" label={quoteattr(each.name)}/>"
    for value, each in enumerate(task.classes)
  )
  atomic.write_text(
    out,
    "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    '<qgis styleCategories="Symbology" version="3.28"><pipe>'
    '<rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1"'
    ' nodataColor=""><rasterTransparency/>'
    f"<colorPalette>{entries}</colorPalette></rasterrenderer>"
    "</pipe><blendMode>0</blendMode></qgis>\n",
  )
