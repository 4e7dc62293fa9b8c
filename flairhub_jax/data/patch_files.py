"""The GeoTIFFs of one patch: read, checked, turned into records."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
import rasterio.crs

from flairhub_jax.data import geotiff
from flairhub_jax.data.records import PATCH
from flairhub_jax.errors import InputError
from flairhub_jax.labels import METRES_PER_PIXEL, TASKS, LabelTask
from flairhub_jax.modalities import (
  MASKED_MODALITY,
  MODALITIES,
  SNOW_CLOUD_BANDS,
  SNOW_CLOUD_MASK,
  Modality,
)

# The first of these that a patch has says where it lies: labels, else the
# finest image, else the finest series.
OUTPUT_GRID_ORDER = (
  *TASKS,
  *sorted(
    MODALITIES,
    key=lambda id: (MODALITIES[id].is_series, MODALITIES[id].metres_per_pixel),
  ),
)

Shape = tuple[int, int, int]


def output_size(shapes: Mapping[str, Shape]) -> tuple[int, int]:
  """Rows and columns of predictions: those of labels, there or not.

  Args:
    shapes: modality or task -> (h, w, c).
  """
  grid = next(name for name in OUTPUT_GRID_ORDER if name in shapes)
  height, width, _ = shapes[grid]
  if grid in TASKS:
    return height, width
  scale = MODALITIES[grid].metres_per_pixel / METRES_PER_PIXEL
  return round(height * scale), round(width * scale)


@dataclasses.dataclass(frozen=True)
class PatchFiles:
  """What a CSV and the dates say of a patch.

  Attributes:
    patch_id: its name.
    files: column -> path, for what the patch has.
    days: series -> int32 [t], days since 1970-01-01.
  """

  patch_id: str
  files: Mapping[str, str]
  days: Mapping[str, np.ndarray]


def read_patch(
  patch: PatchFiles, shapes: Mapping[str, Shape]
) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
  """Reads and checks all files of a patch.

  Args:
    patch: its files and dates.
    shapes: modality or task -> (h, w, c) that every patch must have; of a
      series, c counts the bands of one date.

  Returns:
    Stream -> arrays of its record (see `records`) for all the patch has, and
    the problems found, a line each. With problems the arrays are incomplete.
  """
  reading = _Reading(patch, shapes)
  for column in patch.files:
    if column != SNOW_CLOUD_MASK:
      reading.add(column)
  if not reading.problems:
    reading.add_place()
  return reading.arrays, reading.problems


class _Reading:
  def __init__(self, patch: PatchFiles, shapes: Mapping[str, Shape]):
    self.arrays: dict[str, dict[str, np.ndarray]] = {}
    self.problems: list[str] = []
    self._patch = patch
    self._shapes = shapes
    self._headers: dict[str, geotiff.RasterHeader] = {}

  def add(self, column: str) -> None:
    """Reads a modality or task, or notes what is wrong with it."""
    path = self._patch.files[column]
    try:
      values, header = geotiff.read_raster(path)
      if column in TASKS:
        arrays = self._labels(path, values, TASKS[column])
      elif MODALITIES[column].is_series:
        arrays = self._series(path, values, MODALITIES[column])
      else:
        arrays = self._image(path, values, MODALITIES[column])
    except InputError as error:
      self.problems.append(str(error))
      return
    self.arrays[column] = arrays
    self._headers[column] = header

  def add_place(self) -> None:
    """Compares where the rasters lie and adds the PATCH record."""
    reference = next(c for c in OUTPUT_GRID_ORDER if c in self._headers)
    place = self._headers[reference].georeference
    for column, header in self._headers.items():
      problem = _displacement(place, header.georeference)
      if problem:
        path, other = self._patch.files[column], self._patch.files[reference]
        expected, found = problem
        self.problems.append(
          str(InputError(path, f"{expected} of {other}", found))
        )
    fields = {"patch_id": self._patch.patch_id, **dataclasses.asdict(place)}
    text = json.dumps(fields, sort_keys=True).encode()
    self.arrays[PATCH] = {"json": np.frombuffer(text, np.uint8)}

  def _image(
    self, path: str, values: np.ndarray, modality: Modality
  ) -> dict[str, np.ndarray]:
    _check_dtype(path, values, modality.dtype)
    if values.shape[2] != len(modality.bands):
      raise InputError(
        path, f"{len(modality.bands)} bands {modality.bands}", values.shape[2]
      )
    _check_shape(path, values.shape, self._shapes[modality.id])
    return {"values": _without_infinity(values)}

  def _series(
    self, path: str, values: np.ndarray, modality: Modality
  ) -> dict[str, np.ndarray]:
    _check_dtype(path, values, modality.dtype)
    series = _split_dates(path, values, modality.bands)
    _check_shape(path, series.shape[1:], self._shapes[modality.id])
    days = self._patch.days[modality.id]
    if len(days) != len(series):
      raise InputError(
        path,
        f"{len(days)} dates, as the metadata has for patch "
        f"{self._patch.patch_id}",
        f"{len(series)} ({values.shape[2]} bands)",
      )
    arrays = {"values": _without_infinity(series), "dates": days}
    if modality.id == MASKED_MODALITY and SNOW_CLOUD_MASK in self._patch.files:
      arrays["snow_cloud"] = self._snow_cloud(series.shape[:3])
    return arrays

  def _snow_cloud(self, shape: Shape) -> np.ndarray:
    path = self._patch.files[SNOW_CLOUD_MASK]
    values, header = geotiff.read_raster(path)
    _check_dtype(path, values, "uint8", "uint16")
    mask = _split_dates(path, values, SNOW_CLOUD_BANDS)
    if mask.shape[0] != shape[0]:
      raise InputError(
        path,
        f"{shape[0]} dates, as {MASKED_MODALITY} has",
        f"{mask.shape[0]} ({values.shape[2]} bands)",
      )
    _check_shape(path, mask.shape[1:], (*shape[1:], len(SNOW_CLOUD_BANDS)))
    if mask.max() > 255:
      raise InputError(path, "probabilities of 0-100", mask.max())
    self._headers[SNOW_CLOUD_MASK] = header
    return mask.astype(np.uint8)

  def _labels(
    self, path: str, values: np.ndarray, task: LabelTask
  ) -> dict[str, np.ndarray]:
    _check_dtype(path, values, "uint8")
    _check_shape(path, values.shape, self._shapes[task.id])
    if values.shape[2] <= task.band:
      raise InputError(path, f"at least {task.band + 1} bands", values.shape[2])
    largest = values[..., task.band].max()
    if largest >= task.num_classes:
      raise InputError(
        f"{path}, band {task.band + 1}",
        f"labels 0-{task.num_classes - 1}",
        largest,
      )
    return {"labels": values}


def _check_dtype(path: str, values: np.ndarray, *accepted: str) -> None:
  if values.dtype.name not in accepted:
    raise InputError(path, f"type {' or '.join(accepted)}", values.dtype.name)


def _check_shape(path: str, found: Shape, expected: Shape) -> None:
  if tuple(found) != tuple(expected):
    names = "height x width x bands"
    raise InputError(
      path,
      f"{names} {' x '.join(map(str, expected))}, as the first patch has",
      " x ".join(map(str, found)),
    )


def _split_dates(
  path: str, values: np.ndarray, bands: tuple[str, ...]
) -> np.ndarray:
  """Returns [h w t*c] as [t h w c]."""
  height, width, total = values.shape
  if total % len(bands):
    raise InputError(
      path, f"a multiple of {len(bands)} bands {bands}", f"{total} bands"
    )
  by_date = values.reshape(height, width, total // len(bands), len(bands))
  return by_date.transpose(2, 0, 1, 3)


def _without_infinity(values: np.ndarray) -> np.ndarray:
  """Returns values whose only sign of a missing measurement is NaN."""
  if np.issubdtype(values.dtype, np.floating) and np.isinf(values).any():
    return np.where(np.isinf(values), np.float32(np.nan), values)
  return values


def _displacement(
  place: geotiff.Georeference, other: geotiff.Georeference
) -> tuple[str, str] | None:
  """Returns what was expected and found, or None if the two agree.

  Upper left corners may differ by one of the coarser pixels, because grids of
  different sensors are cut to the same square.
  """
  if place.crs is None or other.crs is None or place == other:
    return None
  if place.crs != other.crs:
    expected, found = map(rasterio.crs.CRS.from_wkt, (place.crs, other.crs))
    if expected != found:
      return f"the CRS {expected.to_string()[:60]}", found.to_string()[:60]
  steps = (place.transform[i] for i in (0, 1, 3, 4))
  other_steps = (other.transform[i] for i in (0, 1, 3, 4))
  tolerance = max(map(abs, (*steps, *other_steps)))
  x, y = place.transform[2], place.transform[5]
  other_x, other_y = other.transform[2], other.transform[5]
  if max(abs(x - other_x), abs(y - other_y)) > tolerance:
    return (
      f"an upper left corner within {tolerance:g} of ({x:.2f}, {y:.2f})",
      f"({other_x:.2f}, {other_y:.2f})",
    )
  return None
