"""Area of interest: polygons of a vector file, as pixels of a map."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw
import rasterio.errors
import rasterio.features
import rasterio.warp
import shapely
import shapely.errors
import shapely.geometry
from jaxtyping import Bool
from rasterio._err import CPLE_BaseError

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping.grid import Grid


class Feature(NamedTuple):
  """Polygons of one feature.

  Attributes:
    number: in the file, from 1.
    name: value of its field `name`; empty if there is none.
    shape: as GeoJSON.
  """

  number: int
  name: str
  shape: Mapping[str, Any]


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
    features = read_features(path, crs)
    shapes = [shapely.geometry.shape(each.shape) for each in features]
    polygons = [polygon for shape in shapes for polygon in _polygons(shape)]
    shape = shapely.geometry.mapping(shapely.MultiPolygon(polygons))
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


def read_features(path: str | pathlib.Path, crs: str | None) -> list[Feature]:
  """Polygons of the first layer, by feature.

  Args:
    path: any vector file.
    crs: to which they are transformed; None: coordinates stay as they are.

  Raises:
    InputError: it cannot be read, or holds no polygons.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise InputError(path, "a vector file", "no file of that name")
  try:
    names = [
      str(name)
      for name in pyogrio.read_info(path, layer=0)["fields"]
      if str(name).lower() == "name"
    ][:1]
    meta, _, shapes, fields = pyogrio.raw.read(path, layer=0, columns=names)
  except (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    ValueError,
  ) as error:
    raise InputError(path, "a readable vector file", error) from error
  shapes = [] if shapes is None else shapes
  titles = fields[0] if len(fields) else [""] * len(shapes)
  try:
    geometries = shapely.force_2d(shapely.from_wkb(shapes))
  except shapely.errors.ShapelyError as error:
    raise InputError(path, "valid shapes", error) from error
  is_same = (
    crs is None
    or not meta["crs"]
    or grids.is_same_crs(
      rasterio.crs.CRS.from_string(meta["crs"]).to_wkt(), crs
    )
  )
  features = []
  for index, (geometry, title) in enumerate(
    zip(geometries, titles, strict=True)
  ):
    polygons = _polygons(geometry)
    if not polygons:
      continue
    shape = shapely.geometry.mapping(shapely.MultiPolygon(polygons))
    if not is_same:
      shape = _transformed(shape, meta["crs"], crs, path)
    name = "" if title is None else str(title)
    features.append(Feature(index + 1, name, shape))
  if not features:
    raise InputError(path, "polygons", f"{len(shapes)} shapes, none of them")
  return features


def _transformed(shape, crs, target, path) -> Mapping[str, Any]:
  try:
    return rasterio.warp.transform_geom(crs, target, shape)
  except (rasterio.errors.RasterioError, CPLE_BaseError) as error:
    raise InputError(path, f"coordinates in {crs}", error) from error


def _polygons(shape: shapely.Geometry | None) -> list[shapely.Polygon]:
  """The polygons of a shape, also those of collections."""
  if isinstance(shape, shapely.Polygon):
    return [] if shape.is_empty else [shape]
  parts = getattr(shape, "geoms", ())
  return [polygon for part in parts for polygon in _polygons(part)]
