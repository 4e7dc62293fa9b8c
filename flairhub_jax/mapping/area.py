"""Area of interest: polygons of a vector file, as pixels of a map."""

import pathlib
from collections.abc import Callable

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw
import rasterio.features
import rasterio.warp
import shapely
import shapely.errors
import shapely.geometry
from jaxtyping import Bool

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping.grid import Grid


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
    try:
      geometries = shapely.force_2d(shapely.from_wkb(shapes))
    except shapely.errors.ShapelyError as error:
      raise InputError(path, "valid shapes", error) from error
    polygons = [polygon for shape in geometries for polygon in _polygons(shape)]
    if not polygons:
      raise InputError(path, "polygons", f"{len(shapes)} shapes, none of them")
    shape = shapely.geometry.mapping(shapely.MultiPolygon(polygons))
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

    def mask(row: int, col: int, height: int, width: int) -> np.ndarray:
      part = grid.part(row, col, height, width)
      return rasterio.features.geometry_mask(
        [self.shape], (height, width), part.transform, invert=True
      )

    return mask


def _polygons(shape: shapely.Geometry | None) -> list[shapely.Polygon]:
  """The polygons of a shape, also those of collections."""
  if isinstance(shape, shapely.Polygon):
    return [] if shape.is_empty else [shape]
  parts = getattr(shape, "geoms", ())
  return [polygon for part in parts for polygon in _polygons(part)]
