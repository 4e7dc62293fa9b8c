"""The GeoTIFFs of one patch: read, checked, turned into records."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np

from flairhub_jax.data import geotiff, placement, time_series, validity
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

# A label without data: no class, so it counts in neither loss nor metrics.
NO_LABEL = 255

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


@dataclasses.dataclass(frozen=True)
class Note:
  """What is odd about a file though it can be used.

  Attributes:
    text: the modality, mask or task and what is odd; the same for all files
      of which the same is to be said.
    path: the file.
    share: of its values that it is true of, 0-1; None: of the whole file.
  """

  text: str
  path: str
  share: float | None = None


@dataclasses.dataclass
class PatchContent:
  """What the files of a patch hold.

  Attributes:
    arrays: stream -> arrays of its record (see `records`).
    problems: what is wrong, a line each; with any, `arrays` is incomplete.
    notes: what is odd.
    missing: modality -> where its `values` are filled in, bool of that shape;
      for whole-number types alone, because others mark such values as NaN.
  """

  arrays: dict[str, dict[str, np.ndarray]]
  problems: list[str]
  notes: list[Note]
  missing: dict[str, np.ndarray]


def read_patch(patch: PatchFiles, shapes: Mapping[str, Shape]) -> PatchContent:
  """Reads and checks all files of a patch.

  Args:
    patch: its files and dates.
    shapes: modality or task -> (h, w, c) that every patch must have; of a
      series, c counts the bands of one date.
  """
  reading = _Reading(patch, shapes)
  for column in patch.files:
    if column != SNOW_CLOUD_MASK:
      reading.add(column)
  if not reading.content.problems:
    reading.add_place()
  return reading.content


def num_bands(column: str) -> int:
  """Returns how many bands a file has, of a series per date."""
  if column in TASKS:
    return TASKS[column].num_bands
  if column == SNOW_CLOUD_MASK:
    return len(SNOW_CLOUD_BANDS)
  return len(MODALITIES[column].bands)


class _Reading:
  def __init__(self, patch: PatchFiles, shapes: Mapping[str, Shape]):
    self.content = PatchContent({}, [], [], {})
    self._patch = patch
    self._shapes = shapes
    self._headers: dict[str, geotiff.RasterHeader] = {}
    # Shares of values that files declare as without data, for the record.
    self._missing: dict[str, float] = {}

  def add(self, column: str) -> None:
    """Reads a modality or task, or notes what is wrong with it."""
    path = self._patch.files[column]
    try:
      values, missing, header = geotiff.read_measurements(
        path, num_bands(column)
      )
      if column in TASKS:
        arrays = self._labels(path, values, missing, TASKS[column])
      elif MODALITIES[column].is_series:
        arrays = self._series(path, values, missing, MODALITIES[column])
      else:
        arrays = self._image(path, values, missing, MODALITIES[column])
    except InputError as error:
      self.content.problems.append(str(error))
      return
    self._note_validity(column, values, missing)
    self.content.arrays[column] = arrays
    self._headers[column] = header

  def _note_validity(
    self, column: str, values: np.ndarray, missing: np.ndarray | None
  ) -> None:
    path = self._patch.files[column]
    if missing is not None:
      text = f"{column}: declared as without data, {validity.TREATMENT[column]}"
      self._missing[column] = float(missing.mean())
      self.content.notes.append(Note(text, path, self._missing[column]))
    if column in MODALITIES:
      for value, share in validity.suspicious_shares(values, missing):
        text = f"{column}: {value}, taken as measured (no-data tag missing?)"
        self.content.notes.append(Note(text, path, share))

  def add_place(self) -> None:
    """Compares where the rasters lie and adds the PATCH record."""
    columns = [c for c in OUTPUT_GRID_ORDER if c in self._headers]
    columns += [c for c in self._headers if c not in columns]
    compared = self._compare_with(columns[0])
    if any(each.problem for each in compared.values()):
      # To blame are the files with which most others disagree. Those that
      # agree with all are only too coarse to tell.
      every = {column: self._compare_with(column) for column in columns}
      disputes = {
        column: sum(each.problem is not None for each in found.values())
        for column, found in every.items()
      }
      reference = min(
        (column for column in columns if disputes[column]),
        key=lambda column: (
          disputes[column],
          not placement.is_mapped(self._headers[column].georeference),
        ),
      )
      for column, each in every[reference].items():
        if each.problem:
          expected, found = each.problem
          expected = f"{expected} of {self._patch.files[reference]}"
          path = self._patch.files[column]
          self.content.problems.append(str(InputError(path, expected, found)))
    self.content.notes += [
      Note(f"{column}: {each.note}", self._patch.files[column])
      for column, each in compared.items()
      if each.note
    ]
    place = self._output_place(columns)
    fields = {
      "patch_id": self._patch.patch_id,
      "missing": self._missing,
      **dataclasses.asdict(place),
    }
    text = json.dumps(fields, sort_keys=True).encode()
    self.content.arrays[PATCH] = {"json": np.frombuffer(text, np.uint8)}

  def _compare_with(self, reference: str) -> dict[str, placement.Comparison]:
    place = self._headers[reference].georeference
    return {
      column: placement.compare(
        place,
        header.georeference,
        published=_published_pixel(reference),
        other_published=_published_pixel(column),
      )
      for column, header in self._headers.items()
    }

  def _output_place(self, columns: list[str]) -> geotiff.Georeference:
    """Returns the grid of maps, with a CRS of the earth if a file has one."""
    places = [self._headers[column].georeference for column in columns]
    place = places[0]
    mapped = [each for each in places if placement.is_mapped(each)]
    if not mapped or placement.is_mapped(place):
      if place.crs is None:
        text = f"{columns[0]}: no georeference, nor have maps of the patch"
        self.content.notes.append(Note(text, self._patch.files[columns[0]]))
      return place
    if place.crs is not None:
      return dataclasses.replace(place, crs=mapped[0].crs)
    size = place.height, place.width
    same = [each for each in mapped if (each.height, each.width) == size]
    if same:
      return same[0]
    text = f"{columns[0]}: no georeference, nor have maps of the patch"
    self.content.notes.append(Note(text, self._patch.files[columns[0]]))
    return place

  def _image(
    self,
    path: str,
    values: np.ndarray,
    missing: np.ndarray | None,
    modality: Modality,
  ) -> dict[str, np.ndarray]:
    _check_dtype(path, values, modality.dtype)
    if values.shape[2] != len(modality.bands):
      raise InputError(
        path, f"{len(modality.bands)} bands {modality.bands}", values.shape[2]
      )
    _check_shape(path, values.shape, self._shapes[modality.id])
    if missing is None or modality.dtype == "float32":
      return {"values": _without_infinity(values)}
    self.content.missing[modality.id] = missing
    return {"values": validity.fill(values[None], missing[None])[0]}

  def _series(
    self,
    path: str,
    values: np.ndarray,
    missing: np.ndarray | None,
    modality: Modality,
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
    if missing is None or modality.dtype == "float32":
      return arrays
    by_date = _split_dates(path, missing, modality.bands)
    kept = by_date.mean((1, 2, 3)) <= time_series.MAX_SHARE_MISSING
    arrays = {name: each[kept] for name, each in arrays.items()}
    self.content.missing[modality.id] = by_date[kept]
    return arrays | {"values": validity.fill(arrays["values"], by_date[kept])}

  def _snow_cloud(self, shape: Shape) -> np.ndarray:
    path = self._patch.files[SNOW_CLOUD_MASK]
    values, missing, header = geotiff.read_measurements(
      path, len(SNOW_CLOUD_BANDS)
    )
    _check_dtype(path, values, "uint8", "uint16")
    if missing is not None:
      # Not known to be clear.
      values = np.where(missing, 100, values)
      self._note_validity(SNOW_CLOUD_MASK, values, missing)
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
    self,
    path: str,
    values: np.ndarray,
    missing: np.ndarray | None,
    task: LabelTask,
  ) -> dict[str, np.ndarray]:
    _check_dtype(path, values, "uint8")
    _check_shape(path, values.shape, self._shapes[task.id])
    if values.shape[2] <= task.band:
      raise InputError(path, f"at least {task.band + 1} bands", values.shape[2])
    if missing is not None:
      values = np.where(missing, np.uint8(NO_LABEL), values)
    band = values[..., task.band]
    known = band if missing is None else band[~missing[..., task.band]]
    largest = known.max(initial=0)
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


def _published_pixel(column: str) -> float | None:
  if column == SNOW_CLOUD_MASK:
    column = MASKED_MODALITY
  if column in TASKS:
    column = "AERIAL_RGBI"
  return MODALITIES[column].metres_per_pixel
