"""Area of interest: polygons of a vector file, as pixels of a map."""

import pathlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw
import rasterio.features
import rasterio.warp
from jaxtyping import Bool

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping.grid import Grid

_POLYGON, _MULTI_POLYGON, _COLLECTION = 3, 6, 7


class Area:
  """Polygons in the coordinate system of a map.

  Attributes:
    shape: as GeoJSON.
    bounds: smallest x, smallest y, largest x, largest y.
  """

  def __init__(self, path: str | pathlib.Path, crs: str | None):
    """Reads all polygons of the first layer.

    Args:
      path: any vector file.
      crs: of the map; None: coordinates are compared as they are.

    Raises:
      InputError: it cannot be read, or holds no polygons.
    """
    path = pathlib.Path(path)
    if not path.is_file():
      raise InputError(path, "a vector file", "no file of that name")
    try:
      meta, _, shapes, _ = pyogrio.raw.read(path, columns=[])
    except (
      pyogrio.errors.DataSourceError,
      pyogrio.errors.DataLayerError,
      ValueError,
    ) as error:
      raise InputError(path, "a readable vector file", error) from error
    shapes = [] if shapes is None else shapes
    polygons = [
      polygon
      for shape in shapes
      if shape is not None
      for polygon in _polygons(shape)
    ]
    if not polygons:
      raise InputError(path, "polygons", f"{len(shapes)} shapes, none of them")
    shape: dict[str, Any] = {"type": "MultiPolygon", "coordinates": polygons}
    if (
      crs is not None
      and meta["crs"]
      and not grids.is_same_crs(
        rasterio.crs.CRS.from_string(meta["crs"]).to_wkt(), crs
      )
    ):
      shape = rasterio.warp.transform_geom(meta["crs"], crs, shape)
    self.shape = shape
    self.bounds = rasterio.features.bounds(shape)

  def on(
    self, grid: Grid
  ) -> Callable[[int, int, int, int], Bool[np.ndarray, "h w"]]:
    """Pixels whose centre lies in a polygon, by first row, column and size."""

    def inside(row: int, col: int, height: int, width: int) -> np.ndarray:
      part = grid.part(row, col, height, width)
      return rasterio.features.geometry_mask(
        [self.shape], (height, width), part.transform, invert=True
      )

    return inside


def _polygons(wkb: bytes) -> list[list[list[tuple[float, float]]]]:
  """Rings of the polygons of a shape in well-known binary."""
  found: list = []
  _parse(memoryview(wkb), 0, found)
  return found


def _parse(data: memoryview, place: int, found: list) -> int:
  """Adds the polygons that begin at a byte; returns the byte after them."""
  order = "<" if data[place] == 1 else ">"
  (code,) = struct.unpack_from(f"{order}I", data, place + 1)
  place += 5
  # ISO adds 1000 for z, 2000 for m, 3000 for both; EWKB sets high bits.
  kind, extra = code % 1000, (code // 1000) % 4
  axes = 2 + (extra in (1, 2)) + 2 * (extra == 3)
  if code & 0xE0000000:
    kind = code & 0xFF
    axes = 2 + bool(code & 0x80000000) + bool(code & 0x40000000)
  (count,) = struct.unpack_from(f"{order}I", data, place)
  if kind in (_MULTI_POLYGON, _COLLECTION):
    place += 4
    for _ in range(count):
      place = _parse(data, place, found)
    return place
  if kind != _POLYGON:
    return len(data)
  place += 4
  rings = []
  for _ in range(count):
    (points,) = struct.unpack_from(f"{order}I", data, place)
    place += 4
    numbers = np.frombuffer(data, f"{order}f8", points * axes, place)
    place += 8 * points * axes
    ring = numbers.reshape(points, axes)[:, :2]
    rings.append([tuple(map(float, point)) for point in ring])
  found.append(rings)
  return place
