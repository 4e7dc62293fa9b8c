"""Reads and checks the GeoTIFFs of one patch and converts them to records."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np

from flairhub_jax.data import columns, geotiff, placement, rasters, validity
from flairhub_jax.data.records import PATCH
from flairhub_jax.errors import InputError
from flairhub_jax.schema import QualityMask, Schema, Sensor

Shape = rasters.Shape

# One note for the files of all sensors: most are of data in reduced size.
_OTHER_GRID = "a whole patch in pixels of another size than the schema's"


def output_size(shapes: Mapping[str, Shape], schema: Schema) -> tuple[int, int]:
  """Returns the rows and columns of predictions.

  This is the size of the labels. Without labels it is the size at the GSD of
  the schema's first task, or else of its finest sensor.

  Args:
    shapes: sensor or column of labels -> (h, w, c).
    schema: of the data set.
  """
  grid = next(name for name in columns.grid_order(schema) if name in shapes)
  height, width, _ = shapes[grid]
  if grid not in schema.sensors:
    return height, width
  scale = schema.sensors[grid].gsd / columns.label_gsd(schema)
  return max(1, round(height * scale)), max(1, round(width * scale))


@dataclasses.dataclass(frozen=True)
class PatchFiles:
  """Files and dates of a patch.

  Attributes:
    patch_id: id of the patch.
    files: column -> path; without an entry for a missing sensor.
    days: series -> int32 [t], days since 1970-01-01.
  """

  patch_id: str
  files: Mapping[str, str]
  days: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Note:
  """Warning about a file that is nevertheless usable.

  Attributes:
    text: the column and the warning; files with the same text are counted
      together.
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
    missing: sensor -> mask of the filled `values`; for integer types only,
      since floating-point values are NaN there.
    unknown: column of labels -> (band, value) -> pixels, of values without a
      class; if there are any, the arrays must not be used.
    gsds: column -> width of a pixel in metres, where the file says so.
  """

  arrays: dict[str, dict[str, np.ndarray]]
  problems: list[str]
  notes: list[Note]
  missing: dict[str, np.ndarray]
  unknown: dict[str, dict[tuple[int, int], int]]
  gsds: dict[str, float]


def read_patch(
  patch: PatchFiles, shapes: Mapping[str, Shape], schema: Schema
) -> PatchContent:
  """Reads and checks all files of a patch.

  Args:
    patch: its files and dates.
    shapes: sensor or column of labels -> (h, w, c) required of every patch;
      for a series, c counts the bands of one date.
    schema: of the data set.
  """
  builder = _ContentBuilder(patch, shapes, schema)
  for column in patch.files:
    if column not in schema.quality_masks:
      builder.add(column)
  if not builder.content.problems:
    builder.add_place()
  return builder.content


class _ContentBuilder:
  def __init__(
    self, patch: PatchFiles, shapes: Mapping[str, Shape], schema: Schema
  ):
    self.content = PatchContent({}, [], [], {}, {}, {})
    self._patch = patch
    self._shapes = shapes
    self._schema = schema
    self._order = columns.grid_order(schema)
    self._headers: dict[str, geotiff.RasterHeader] = {}
    # Fractions of values that the files declare as no data.
    self._missing: dict[str, float] = {}

  def add(self, column: str) -> None:
    """Reads a sensor or labels; on failure, adds a problem."""
    path = self._patch.files[column]
    sensor = self._schema.sensors.get(column)
    try:
      values, missing, header = geotiff.read_measurements(
        path,
        columns.num_bands(self._schema, column),
        None if sensor is None else sensor.no_data,
      )
      if sensor is None:
        arrays = self._labels(path, values, missing, column)
      elif sensor.is_series:
        arrays = self._series(path, values, missing, sensor)
      else:
        arrays = self._image(path, values, missing, sensor)
      if sensor is not None:
        names = header.descriptions[: header.num_bands]
        rasters.check_band_names(path, names, sensor.bands)
      self._keep(column, header)
    except InputError as error:
      self.content.problems.append(str(error))
      return
    self._note_validity(column, values, missing)
    self.content.arrays[column] = arrays

  def _keep(self, column: str, header: geotiff.RasterHeader) -> None:
    """Keeps the header of a file on the ground of the schema."""
    path = self._patch.files[column]
    expected = columns.published(self._schema, column)
    if placement.has_other_grid(path, header.georeference, expected):
      self.content.notes.append(Note(_OTHER_GRID, path))
    sizes = placement.pixel_metres(header.georeference)
    if sizes is not None:
      self.content.gsds[column] = sizes[0]
    self._headers[column] = header

  def _note_validity(
    self, column: str, values: np.ndarray, missing: np.ndarray | None
  ) -> None:
    path = self._patch.files[column]
    if missing is not None:
      text = f"{column}: declared as without data, "
      text += validity.treatment(self._schema, column)
      self._missing[column] = float(missing.mean())
      self.content.notes.append(Note(text, path, self._missing[column]))
    if column in self._schema.sensors:
      for value, fraction in validity.suspicious_fractions(values, missing):
        text = f"{column}: {value}, taken as measured (no-data tag missing?)"
        self.content.notes.append(Note(text, path, fraction))

  def add_place(self) -> None:
    """Compares the georeferences of the rasters and adds the PATCH record."""
    order = [c for c in self._order if c in self._headers]
    order += [c for c in self._headers if c not in order]
    compared = self._compare_with(order[0])
    if any(each.problem for each in compared.values()):
      # The files that disagree with the most others are reported. A file that
      # agrees with all others may just be too coarse to show a difference.
      every = {column: self._compare_with(column) for column in order}
      disputes = {
        column: sum(each.problem is not None for each in found.values())
        for column, found in every.items()
      }
      reference = min(
        (column for column in order if disputes[column]),
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
    place = self._output_place(order)
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
        published=columns.published(self._schema, reference),
        other_published=columns.published(self._schema, column),
      )
      for column, header in self._headers.items()
    }

  def _output_place(self, order: list[str]) -> geotiff.Georeference:
    """Returns the output grid, with a geographic or projected CRS if known."""
    places = [self._headers[column].georeference for column in order]
    place = places[0]
    mapped = [each for each in places if placement.is_mapped(each)]
    if not mapped or placement.is_mapped(place):
      if place.crs is None:
        text = f"{order[0]}: no georeference, nor have maps of the patch"
        self.content.notes.append(Note(text, self._patch.files[order[0]]))
      return place
    if place.crs is not None:
      return dataclasses.replace(place, crs=mapped[0].crs)
    size = place.height, place.width
    same = [each for each in mapped if (each.height, each.width) == size]
    if same:
      return same[0]
    text = f"{order[0]}: no georeference, nor have maps of the patch"
    self.content.notes.append(Note(text, self._patch.files[order[0]]))
    return place

  def _image(
    self,
    path: str,
    values: np.ndarray,
    missing: np.ndarray | None,
    sensor: Sensor,
  ) -> rasters.Arrays:
    shape = self._shapes[sensor.id]
    values = rasters.image_values(path, values, sensor, shape)
    if missing is not None and sensor.dtype != "float32":
      self.content.missing[sensor.id] = missing
      values = validity.fill(values[None], missing[None])[0]
    return {"values": values}

  def _series(
    self,
    path: str,
    values: np.ndarray,
    missing: np.ndarray | None,
    sensor: Sensor,
  ) -> rasters.Arrays:
    days = self._patch.days[sensor.id]
    series = rasters.series_values(
      path,
      values,
      sensor,
      self._shapes[sensor.id],
      patch_id=self._patch.patch_id,
      num_dates=len(days),
    )
    arrays = {"values": series, "dates": days}
    mask = sensor.quality_mask
    if mask is not None and mask.id in self._patch.files:
      arrays["quality"] = self._quality(sensor, mask, series.shape[:3])
    if missing is not None and sensor.dtype != "float32":
      by_date = rasters.split_dates(path, missing, sensor.bands)
      arrays, by_date = rasters.fill_series(arrays, by_date)
      self.content.missing[sensor.id] = by_date
    return arrays

  def _labels(
    self,
    path: str,
    values: np.ndarray,
    missing: np.ndarray | None,
    column: str,
  ) -> rasters.Arrays:
    tasks, shape = self._schema.label_columns[column], self._shapes[column]
    stored, unknown = rasters.labels_of(path, values, missing, tasks, shape)
    if unknown:
      self.content.unknown[column] = unknown
    return {"labels": stored}

  def _quality(
    self, sensor: Sensor, mask: QualityMask, shape: rasters.Shape
  ) -> np.ndarray:
    path = self._patch.files[mask.id]
    values, missing, header = geotiff.read_measurements(path, len(mask.bands))
    quality = rasters.quality_values(path, values, missing, sensor, mask, shape)
    names = header.descriptions[: header.num_bands]
    rasters.check_band_names(path, names, mask.bands)
    if missing is not None:
      self._note_validity(mask.id, values, missing)
    self._keep(mask.id, header)
    return quality
