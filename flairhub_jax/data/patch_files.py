"""Reads and checks the GeoTIFFs of one patch and converts them to records."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np

from flairhub_jax.data import geotiff, placement, rasters, validity
from flairhub_jax.data.records import PATCH
from flairhub_jax.errors import InputError
from flairhub_jax.labels import GSD, TASKS
from flairhub_jax.modalities import (
  MASKED_MODALITY,
  MODALITIES,
  SNOW_CLOUD_BANDS,
  SNOW_CLOUD_MASK,
  Modality,
)

# Sources of a patch's georeference, in order of preference: labels, then the
# image and then the series with the smallest GSD.
OUTPUT_GRID_ORDER = (
  *TASKS,
  *sorted(
    MODALITIES,
    key=lambda id: (MODALITIES[id].is_series, MODALITIES[id].gsd),
  ),
)

Shape = rasters.Shape


def output_size(shapes: Mapping[str, Shape]) -> tuple[int, int]:
  """Returns the rows and columns of predictions.

  This is the size of the labels, or the size at the GSD of labels without them.

  Args:
    shapes: modality or task -> (h, w, c).
  """
  grid = next(name for name in OUTPUT_GRID_ORDER if name in shapes)
  height, width, _ = shapes[grid]
  if grid in TASKS:
    return height, width
  scale = MODALITIES[grid].gsd / GSD
  return round(height * scale), round(width * scale)


@dataclasses.dataclass(frozen=True)
class PatchFiles:
  """Files and dates of a patch.

  Attributes:
    patch_id: id of the patch.
    files: column -> path; without an entry for a missing modality.
    days: series -> int32 [t], days since 1970-01-01.
  """

  patch_id: str
  files: Mapping[str, str]
  days: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Note:
  """Warning about a file that is nevertheless usable.

  Attributes:
    text: the modality, mask or task, and the warning; files with the same text
      are counted together.
    path: the file.
    fraction: fraction of the affected values, 0-1; None: the whole file.
  """

  text: str
  path: str
  fraction: float | None = None


@dataclasses.dataclass
class PatchContent:
  """The content of the files of a patch.

  Attributes:
    arrays: stream -> arrays of its record (see `records`).
    problems: errors, one line each; if there are any, `arrays` is incomplete.
    notes: warnings.
    missing: modality -> mask of the filled `values`; for integer types only,
      since floating-point values are NaN there.
  """

  arrays: dict[str, dict[str, np.ndarray]]
  problems: list[str]
  notes: list[Note]
  missing: dict[str, np.ndarray]


def read_patch(patch: PatchFiles, shapes: Mapping[str, Shape]) -> PatchContent:
  """Reads and checks all files of a patch.

  Args:
    patch: its files and dates.
    shapes: modality or task -> (h, w, c) required of every patch; for a
      series, c counts the bands of one date.
  """
  builder = _ContentBuilder(patch, shapes)
  for column in patch.files:
    if column != SNOW_CLOUD_MASK:
      builder.add(column)
  if not builder.content.problems:
    builder.add_place()
  return builder.content


def num_bands(column: str) -> int:
  """Returns the number of bands of a file, for a series per date."""
  if column in TASKS:
    return TASKS[column].num_bands
  if column == SNOW_CLOUD_MASK:
    return len(SNOW_CLOUD_BANDS)
  return len(MODALITIES[column].bands)


class _ContentBuilder:
  def __init__(self, patch: PatchFiles, shapes: Mapping[str, Shape]):
    self.content = PatchContent({}, [], [], {})
    self._patch = patch
    self._shapes = shapes
    self._headers: dict[str, geotiff.RasterHeader] = {}
    # Fractions of values that the files declare as no data.
    self._missing: dict[str, float] = {}

  def add(self, column: str) -> None:
    """Reads a modality or task; on failure, adds a problem."""
    path = self._patch.files[column]
    try:
      values, missing, header = geotiff.read_measurements(
        path, num_bands(column)
      )
      if column in TASKS:
        shape = self._shapes[column]
        labels = rasters.label_values(
          path, values, missing, TASKS[column], shape
        )
        arrays = {"labels": labels}
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
      for value, fraction in validity.suspicious_fractions(values, missing):
        text = f"{column}: {value}, taken as measured (no-data tag missing?)"
        self.content.notes.append(Note(text, path, fraction))

  def add_place(self) -> None:
    """Compares the georeferences of the rasters and adds the PATCH record."""
    columns = [c for c in OUTPUT_GRID_ORDER if c in self._headers]
    columns += [c for c in self._headers if c not in columns]
    compared = self._compare_with(columns[0])
    if any(each.problem for each in compared.values()):
      # The files that disagree with the most others are reported. A file that
      # agrees with all others may just be too coarse to show a difference.
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
        published=_published_gsd(reference),
        other_published=_published_gsd(column),
      )
      for column, header in self._headers.items()
    }

  def _output_place(self, columns: list[str]) -> geotiff.Georeference:
    """Returns the output grid, with a geographic or projected CRS if known."""
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
  ) -> rasters.Arrays:
    shape = self._shapes[modality.id]
    values = rasters.image_values(path, values, modality, shape)
    if missing is not None and modality.dtype != "float32":
      self.content.missing[modality.id] = missing
      values = validity.fill(values[None], missing[None])[0]
    return {"values": values}

  def _series(
    self,
    path: str,
    values: np.ndarray,
    missing: np.ndarray | None,
    modality: Modality,
  ) -> rasters.Arrays:
    days = self._patch.days[modality.id]
    series = rasters.series_values(
      path,
      values,
      modality,
      self._shapes[modality.id],
      patch_id=self._patch.patch_id,
      num_dates=len(days),
    )
    arrays = {"values": series, "dates": days}
    if modality.id == MASKED_MODALITY and SNOW_CLOUD_MASK in self._patch.files:
      arrays["snow_cloud"] = self._snow_cloud(series.shape[:3])
    if missing is not None and modality.dtype != "float32":
      by_date = rasters.split_dates(path, missing, modality.bands)
      arrays, by_date = rasters.fill_series(arrays, by_date)
      self.content.missing[modality.id] = by_date
    return arrays

  def _snow_cloud(self, shape: rasters.Shape) -> np.ndarray:
    path = self._patch.files[SNOW_CLOUD_MASK]
    values, missing, header = geotiff.read_measurements(
      path, len(SNOW_CLOUD_BANDS)
    )
    mask = rasters.snow_cloud_values(path, values, missing, shape)
    if missing is not None:
      self._note_validity(SNOW_CLOUD_MASK, values, missing)
    self._headers[SNOW_CLOUD_MASK] = header
    return mask


def _published_gsd(column: str) -> float | None:
  if column == SNOW_CLOUD_MASK:
    column = MASKED_MODALITY
  if column in TASKS:
    column = "AERIAL_RGBI"
  return MODALITIES[column].gsd
