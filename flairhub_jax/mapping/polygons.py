"""Polygons of a map, as a GeoPackage.

The polygons cover the pixels with data once. Borders between two of them are
simplified once, for both (Visvalingam and Whyatt 1993, of GEOS); borders to
pixels without data, and the corners where three polygons meet, stay where they
are. All polygons of a map are in memory.
"""

import pathlib
import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw
import rasterio
import rasterio.features
import shapely
import shapely.geometry
from jaxtyping import Float, UInt8
from rasterio import Affine, windows

from flairhub_jax import atomic
from flairhub_jax.errors import InputError, RunError
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping import ground_area, output
from flairhub_jax.schema import NO_LABEL, LabelTask

_WHERE = "--polygons"
# Corners of triangles with an area below the square of so many pixels go: the
# steps of a slanting border of pixels have half a pixel.
_TOLERANCE = 1.0
# Rows of which the confidence is averaged at once.
_ROWS = 512


class MapFiles(NamedTuple):
  """Files of a task.

  Attributes:
    task: its classes.
    classes: the map.
    confidence: the layer of that name; None if it is not written.
  """

  task: LabelTask
  classes: pathlib.Path
  confidence: pathlib.Path | None


def check(out: pathlib.Path, identity: str) -> None:
  """Checks that polygons can be written, before anything is computed.

  Raises:
    InputError: its name or folder does not allow it, or it is another file.
  """
  if out.suffix.lower() != ".gpkg":
    raise InputError(_WHERE, "a name that ends in .gpkg", repr(str(out)))
  if not out.absolute().parent.is_dir():
    raise InputError(_WHERE, f"an existing folder {out.parent}", "none")
  if out.exists() and not is_of_map(out, identity):
    raise InputError(out, "no file, or polygons of this map", "another file")


def is_of_map(path: pathlib.Path, identity: str) -> bool:
  """Whether a file has the polygons of a map."""
  try:
    metadata = pyogrio.read_info(path, layer=0)["layer_metadata"]
  except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):
    return False
  return (metadata or {}).get(output.IDENTITY) == identity


def write(
  out: pathlib.Path, maps: Mapping[str, MapFiles], identity: str
) -> None:
  """Writes the polygons of all tasks, a layer each.

  Args:
    out: the GeoPackage.
    maps: task -> its files.
    identity: of the map.

  Raises:
    RunError: it cannot be written.
  """
  with atomic.write_aside(out) as aside:
    for task, files in maps.items():
      try:
        _write_layer(aside, task, files, identity)
      except pyogrio.errors.DataSourceError as error:
        raise RunError(f"{out}: cannot be written: {error}") from error


def _write_layer(path, layer, files, identity) -> None:
  grid = output.read_grid(files.classes)
  values, exact = polygonise(files.classes)
  shapes = shapely.coverage_simplify(exact, _TOLERANCE, simplify_boundary=False)
  shapes = shapely.transform(
    shapes, lambda at: np.stack(grids.at(grid.transform, *at.T), -1)
  )
  names = np.array(files.task.class_names, object)
  fields = {
    "class": values.astype(np.int32),
    "name": names[values],
    "area_m2" if grid.crs else "area": ground_area.of_shapes(shapes, grid.crs),
  }
  if files.confidence is not None:
    fields["confidence"] = mean_values(exact, files.confidence)
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'crs' was not provided")
    pyogrio.raw.write(
      path,
      shapely.to_wkb(shapes),
      list(fields.values()),
      list(fields),
      layer=layer,
      driver="GPKG",
      geometry_type="Polygon",
      crs=grid.crs,
      layer_metadata={output.IDENTITY: identity},
    )


def polygonise(
  path: pathlib.Path,
) -> tuple[UInt8[np.ndarray, "n"], np.ndarray]:
  """Polygons along the sides of pixels, a coverage.

  Returns:
    Class of each polygon, and polygons in columns and rows.
  """
  with output.open_map(path) as raster:
    pairs = [
      (int(value), shapely.geometry.shape(shape))
      for shape, value in rasterio.features.shapes(
        rasterio.band(raster, 1), connectivity=4, transform=raster.transform
      )
      if value != NO_LABEL
    ]
    inverse = ~raster.transform
  values = np.array([value for value, _ in pairs], np.uint8)
  shapes = np.array([shape for _, shape in pairs], object)
  shapes = shapely.transform(
    shapes, lambda at: np.rint(np.stack(grids.at(inverse, *at.T), -1))
  )
  return values, _with_shared_corners(shapes)


def _with_shared_corners(shapes: np.ndarray) -> np.ndarray:
  """Polygons that have the corners of their neighbours on their borders too.

  A border on which two neighbours meet has a corner there in all three.
  """
  if not len(shapes):
    return shapes
  rings, owners = shapely.get_rings(shapes, return_index=True)
  corners = np.unique(_codes(shapely.get_coordinates(rings)))
  # All corners of pixels along a ring, then those of any polygon.
  points, ring = shapely.get_coordinates(
    shapely.segmentize(rings, 1.0), return_index=True
  )
  points = np.rint(points)
  is_corner = np.isin(_codes(points), corners)
  rings = shapely.linearrings(points[is_corner], indices=ring[is_corner])
  return shapely.polygons(rings, indices=owners)


def _codes(points: Float[np.ndarray, "n 2"]) -> np.ndarray:
  """One integer for each point of whole columns and rows."""
  columns, rows = np.rint(points).astype(np.int64).T
  return rows << 32 | columns


def mean_values(
  shapes: np.ndarray, path: pathlib.Path
) -> Float[np.ndarray, "n"]:
  """Mean of a layer over polygons of `polygonise`; NaN without data."""
  sums, counts = np.zeros(len(shapes)), np.zeros(len(shapes))
  if not len(shapes):
    return sums
  tree = shapely.STRtree(shapes)
  with output.open_map(path) as raster:
    for first in range(0, raster.height, _ROWS):
      rows = min(_ROWS, raster.height - first)
      window = windows.Window(0, first, raster.width, rows)
      values = raster.read(1, window=window)
      index = _rasterise(tree, first, values.shape)
      has_value = (index >= 0) & (values != NO_LABEL)
      places = index[has_value]
      sums += np.bincount(places, values[has_value], len(shapes))
      counts += np.bincount(places, minlength=len(shapes))
    scale = raster.scales[0]
  means = np.full(len(shapes), np.nan)
  np.divide(sums * scale, counts, out=means, where=counts > 0)
  return means


def _rasterise(tree, first: int, shape: tuple[int, int]) -> np.ndarray:
  """Index of the polygon of each pixel of some rows, -1 outside."""
  nearby = np.sort(
    tree.query(shapely.box(0, first, shape[1], first + shape[0]))
  )
  if not len(nearby):
    return np.full(shape, -1, np.int32)
  return rasterio.features.rasterize(
    zip(tree.geometries[nearby], nearby.tolist(), strict=True),
    shape,
    fill=-1,
    transform=Affine.translation(0, first),
    dtype=np.int32,
  )
