"""Comparison of the ground extents of two rasters with any grids and CRS.

Corners are compared in pixel order, so a raster that is rotated, mirrored,
sheared or has another pixel size differs in at least one corner.
"""

import dataclasses
import functools
import math
import re

import numpy as np
import rasterio.crs
import rasterio.errors
import rasterio.warp
from rasterio._err import CPLE_BaseError

from flairhub_jax.data.columns import Published
from flairhub_jax.data.geotiff import Georeference
from flairhub_jax.errors import InputError
from flairhub_jax.schema_file import GSD_TOLERANCE

# Grids of two sensors cover the same square up to one coarse pixel; two grids
# of the same pixel size must align pixel by pixel.
_TOLERANCE_OF_SENSORS = 1.0
_TOLERANCE_OF_PIXELS = 0.5


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Result of comparing the georeferences of two rasters.

  Attributes:
    problem: expected and actual ground extent, if they differ.
    note: a warning, although the extents may be the same.
  """

  problem: tuple[str, str] | None = None
  note: str | None = None


def is_mapped(place: Georeference) -> bool:
  """Returns whether the CRS is projected or geographic, not a local one."""
  if place.crs is None:
    return False
  crs = rasterio.crs.CRS.from_wkt(place.crs)
  return crs.is_projected or crs.is_geographic


def compare(
  place: Georeference,
  other: Georeference,
  *,
  published: Published | None = None,
  other_published: Published | None = None,
) -> Comparison:
  """Compares the ground extents of two rasters.

  All four corners must agree within one coarser pixel, or half a pixel if both
  have the same pixel size. A published square of a coarse sensor may also
  contain a smaller square of a finer sensor with the same corner.

  Args:
    place: the reference raster.
    other: the raster to check.
    published: GSD and extent of the reference raster by the schema.
    other_published: GSD and extent of the other raster by the schema.
  """
  if place == other:
    return Comparison()
  if other.crs is None or place.crs is None:
    text = "no georeference; taken to lie where the other files do"
    return Comparison(note=None if place.crs == other.crs else text)
  corners, others = _corners(place), _corners(other)
  first, second = map(rasterio.crs.CRS.from_wkt, (place.crs, other.crs))
  note = None
  if first != second and is_mapped(place) and is_mapped(other):
    others = _transform(second, first, others)
  elif first != second:
    if not _are_names_alike(_name(first), _name(second)):
      return Comparison(_problem(place, other, corners, None))
    note = (
      f"the CRS {_name(second)!r} is taken for {_name(first)!r}, because "
      "coordinates and names agree"
    )
  size, other_size = _pixel_size(place, corners), _pixel_size(other, others)
  coarser, finer = max(size, other_size), min(size, other_size)
  is_same_size = coarser <= 1.01 * finer
  pixels = _TOLERANCE_OF_PIXELS if is_same_size else _TOLERANCE_OF_SENSORS
  # The factor allows for corners stored with few digits.
  offsets = np.abs(corners - others).max(1) / (coarser * pixels * 1.001)
  if (offsets <= 1).all():
    return Comparison(note=note)
  coarse = other, other_size, other_published
  if size > other_size:
    coarse = place, size, published
  if (
    offsets[0] <= 1
    and _orientation(corners) == _orientation(others)
    and _is_published(size, published)
    and _is_published(other_size, other_published)
    and _is_whole(*coarse)
    and coarser > 1.5 * finer
  ):
    sizes = (_size(each) for each in (others, corners))
    return Comparison(
      note="{} of ground, taken for the {} of the output grid".format(*sizes)
    )
  return Comparison(_problem(place, other, corners, (pixels, others)))


def _corners(place: Georeference) -> np.ndarray:
  """Returns [4 2]: upper left, upper right, lower left, lower right."""
  a, b, c, d, e, f = place.transform
  w, h = place.width, place.height
  return np.array(
    [
      (a * col + b * row + c, d * col + e * row + f)
      for col, row in ((0, 0), (w, 0), (0, h), (w, h))
    ]
  )


def _transform(
  source: rasterio.crs.CRS, target: rasterio.crs.CRS, corners: np.ndarray
) -> np.ndarray:
  """Returns corners in another CRS; infinite if that is impossible."""
  try:
    x, y = rasterio.warp.transform(source, target, *corners.T.tolist())
  except (rasterio.errors.RasterioError, CPLE_BaseError):
    return np.full_like(corners, np.inf)
  return np.stack([x, y], 1)


def _pixel_size(place: Georeference, corners: np.ndarray) -> float:
  """Returns the length of the longer pixel edge, in units of the corners."""
  with np.errstate(invalid="ignore"):
    right, down = corners[1] - corners[0], corners[2] - corners[0]
  return max(math.hypot(*right) / place.width, math.hypot(*down) / place.height)


def _is_published(size: float, published: Published | None) -> bool:
  return published is not None and _is_close(size, published.gsd)


def _is_whole(
  place: Georeference, size: float, published: Published | None
) -> bool:
  if published is None or published.metres is None:
    return False
  return _is_close(max(place.width, place.height) * size, published.metres)


def _is_close(size: float, expected: float) -> bool:
  return abs(size / expected - 1) <= GSD_TOLERANCE


def has_other_grid(
  path: str, place: Georeference, published: Published
) -> bool:
  """Compares the pixels of a raster with the GSD of the schema.

  Only rasters of a projected CRS in metres are compared.

  Returns:
    Whether the raster covers the whole square of the schema with pixels of
    another size: a patch on another grid.

  Raises:
    InputError: the pixels have another size, and so has the ground.
  """
  sizes = pixel_metres(place)
  if sizes is None or all(_is_close(size, published.gsd) for size in sizes):
    return False
  text = " x ".join(f"{size:.6g}" for size in dict.fromkeys(sizes))
  metres = published.metres
  if metres is not None and all(
    _is_close(number * size, metres)
    for number, size in zip((place.width, place.height), sizes, strict=True)
  ):
    return True
  raise InputError(
    path, f"pixels of {published.gsd:g} m, as the schema says", f"{text} m"
  )


def pixel_metres(place: Georeference) -> tuple[float, float] | None:
  """Width and height of a pixel; None without a projected CRS in metres."""
  if place.crs is None or not _is_in_metres(place.crs):
    return None
  a, b, _, d, e, _ = place.transform
  return math.hypot(a, d), math.hypot(b, e)


@functools.lru_cache(maxsize=64)
def _is_in_metres(crs: str) -> bool:
  parsed = rasterio.crs.CRS.from_wkt(crs)
  return parsed.is_projected and parsed.linear_units_factor[1] == 1


def _name(crs: rasterio.crs.CRS) -> str:
  match = re.match(r'\w+\["([^"]*)"', crs.to_wkt())
  return match[1] if match else crs.to_string()[:60]


def _are_names_alike(name: str, other: str) -> bool:
  """Returns whether two names may denote the same CRS; generic names match."""
  words, others = (
    set(re.findall(r"[a-z]+|\d+", each.lower())) for each in (name, other)
  )
  empty = {"unknown", "unnamed", "undefined", "engineering", "local", "crs"}
  if words <= empty or others <= empty:
    return True
  # Names of one place differ in realisations (v1, v2b) and separators.
  fewer, more = sorted((words, others), key=len)
  digits = {word for word in fewer ^ more if word.isdigit()}
  return len(fewer & more) >= 2 and len(digits) <= 1


def _orientation(corners: np.ndarray) -> str:
  """Describes the orientation of rows and columns."""
  right, down = corners[1] - corners[0], corners[2] - corners[0]
  lengths = math.hypot(*right), math.hypot(*down)
  if not all(math.isfinite(x) and x for x in lengths):
    return "no extent"
  angle = math.degrees(math.atan2(right[1], right[0]))
  is_mirrored = bool(right[0] * down[1] - right[1] * down[0] > 0)
  if abs(float(right @ down)) > 1e-3 * lengths[0] * lengths[1]:
    return "sheared"
  if abs(angle) < 0.05:
    return "south up" if is_mirrored else "north up"
  if is_mirrored and abs(angle) > 179.95:
    return "mirrored, east to the left"
  return f"turned by {angle:.1f} degrees" + ", mirrored" * is_mirrored


def _size(corners: np.ndarray) -> str:
  right, down = corners[1] - corners[0], corners[2] - corners[0]
  return f"{math.hypot(*right):.6g} x {math.hypot(*down):.6g}"


def _problem(
  place: Georeference,
  other: Georeference,
  corners: np.ndarray,
  compared: tuple[float, np.ndarray] | None,
) -> tuple[str, str]:
  """Returns the expected and actual extent, with all differences."""
  expected, found = [], []
  if place.crs != other.crs:
    names = [rasterio.crs.CRS.from_wkt(each.crs) for each in (place, other)]
    texts = [_label(crs) for crs in names]
    if texts[0] == texts[1]:
      texts = [crs.to_wkt()[:200] for crs in names]
    expected.append(f"the CRS {texts[0]}")
    found.append(texts[1])
  if compared is None:
    return ", ".join(expected), ", ".join(found)
  pixels, others = compared
  if not np.isfinite(others).all():
    return ", ".join(expected), ", ".join(found) + ", which cannot be compared"
  for texts, each, raster in (
    (expected, corners, place),
    (found, others, other),
  ):
    x, y = each[0]
    texts.append(
      f"{_size(each)} from the corner ({x:.2f}, {y:.2f}), "
      f"pixels of {_pixel_size(raster, each):.5g}, {_orientation(each)}"
    )
  expected[-1] = f"within {pixels:g} pixel: {expected[-1]}, the ground"
  return ", ".join(expected), ", ".join(found)


def _label(crs: rasterio.crs.CRS) -> str:
  code = crs.to_epsg()
  return f"EPSG:{code} {_name(crs)!r}" if code else repr(_name(crs))
