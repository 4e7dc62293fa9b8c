"""Size of GDAL's cache of the blocks of rasters during a map.

By default it grows to a twentieth of the machine's memory.
"""

from collections.abc import Mapping

import rasterio

from flairhub_jax.mapping.inputs import SensorInput
from flairhub_jax.mapping.layout import Layout

_LEAST = 64 * 2**20


def size(inputs: Mapping[str, SensorInput], layout: Layout) -> int:
  """Bytes for two rows of windows of all rasters.

  Windows of a row share blocks, or strips as wide as the raster, with each
  other and with the row below.
  """
  metres = layout.shape[0] * layout.grid.pixel_metres[0]
  total = 0.0
  for each in inputs.values():
    for mosaic in (each.mosaic, each.mask):
      if mosaic is not None:
        rows = min(metres / mosaic.grid.pixel_metres[0], mosaic.grid.height)
        pixel = mosaic.num_bands * mosaic.dtype.itemsize
        total += rows * mosaic.grid.width * pixel
  return max(_LEAST, round(2 * total))


def bounded(inputs: Mapping[str, SensorInput], layout: Layout) -> rasterio.Env:
  """A context in which GDAL's cache has this size."""
  return rasterio.Env(GDAL_CACHEMAX=size(inputs, layout))
