"""A bounded sample of the values of a mosaic, spread over it."""

import itertools
import math

import numpy as np
from jaxtyping import Float

from flairhub_jax.mapping.mosaic import Mosaic
from flairhub_jax.mapping.open_raster import OpenRaster

_NUM_BLOCKS = 16
_MOST_VALUES = 2_000_000
_LARGEST_BLOCK = 128


def take(mosaic: Mosaic | OpenRaster) -> Float[np.ndarray, "n c"]:
  """Reads small blocks of up to 16 tiles, or of several places of a tile.

  Args:
    mosaic: its blocks are read from the top to the bottom.

  Returns:
    Pixels with data in any band; NaN where a band has none. At most two
    million values.

  Raises:
    RunError: a file is damaged.
  """
  side = math.sqrt(_MOST_VALUES / _NUM_BLOCKS / mosaic.num_bands)
  side = max(4, min(_LARGEST_BLOCK, int(side)))
  number = min(len(mosaic.tiles), _NUM_BLOCKS)
  chosen = np.linspace(0, len(mosaic.tiles) - 1, number).round().astype(int)
  along = max(1, math.isqrt(_NUM_BLOCKS // number))
  parts = []
  for index in chosen:
    tile = mosaic.tiles[index]
    for row, height in _spans(tile.grid.height, side, along):
      for col, width in _spans(tile.grid.width, side, along):
        values, missing = mosaic.read(
          tile.row + row, tile.col + col, height, width
        )
        values = np.where(missing, np.nan, values.astype(np.float64))
        parts.append(values[~missing.all(-1)])
  return np.concatenate(parts)


def _spans(size: int, side: int, number: int) -> list[tuple[int, int]]:
  """First pixels and sizes of blocks along an axis; all of a short one."""
  edges = np.linspace(0, size, number + 1).round().astype(int)
  spans = []
  for start, end in itertools.pairwise(edges):
    length = int(min(end - start, side))
    if length:
      spans.append((int(start + end - length) // 2, length))
  return spans
