"""Sensors, label tasks and classes as data: the schema of a data set.

A data set carries its schema in `dataset.json`, a run in `config.json`, see
`schema_file.py`. `flair_hub.py` holds FLAIR-HUB's.
"""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from jaxtyping import Bool, UInt8

from flairhub_jax.schema_check import check_distinct, check_known

# Label of a pixel without a class: ignored in loss and metrics.
NO_LABEL = 255
# Label of a stored value that is undefined in the schema.
UNKNOWN_LABEL = 254

_MAX_CLASSES = 250  # below the two labels above
_COLOUR = r"^#[0-9a-fA-F]{6}$"
# Ids become file names, fields of a configuration and columns of a CSV.
_Id = Annotated[
  str, pydantic.Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=64)
]
_File = Annotated[str, pydantic.Field(pattern=r"^[\w-][\w .-]*$")]
_Name = Annotated[str, pydantic.Field(min_length=1, max_length=80)]
_Number = Annotated[float, pydantic.Field(allow_inf_nan=False)]
_Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
_Stored = Annotated[int, pydantic.Field(ge=0, le=65535)]


class _Part(pydantic.BaseModel):
  """A part of a schema: immutable, without unknown fields."""

  model_config = pydantic.ConfigDict(
    frozen=True, extra="forbid", str_strip_whitespace=True
  )

  @pydantic.model_validator(mode="after")
  def _has_printable_text(self) -> Any:
    for name, value in self:
      if isinstance(value, str) and not value.isprintable():
        raise ValueError(f"{name}: expected printable text, found {value!r}")
    return self


class QualityMask(_Part):
  """A raster beside a series: how much of each pixel is covered per date.

  Attributes:
    id: column of the split CSV and of the records.
    bands: names in file order, per date. `config.data.cloud_filter.max_snow`
      applies to a band named `snow`, `max_cloud` to all others.
    full: stored value of a certainly covered pixel: 100, or 1 of a mask.
  """

  id: _Id
  bands: tuple[_Name, ...] = pydantic.Field(min_length=1)
  full: int = pydantic.Field(default=100, ge=1, le=255)

  @pydantic.model_validator(mode="after")
  def _is_consistent(self) -> "QualityMask":
    check_distinct("bands", self.bands)
    return self


class Sensor(_Part):
  """One sensor product of a patch.

  Attributes:
    id: used in CSV headers, folders, configurations and batches.
    kind: `image`, or `series` of which a file stacks the dates, time-major.
    bands: names in file order (per date for a series).
    gsd: ground sampling distance, in metres.
    dtype: type of the stored values.
    unit: what a value measures.
    pixels: height and width of a patch where all patches have one size.
    mean: band -> mean over the training set; empty: values are not normalised.
    std: band -> standard deviation; for the same bands as `mean`.
    derived_bands: name -> (minuend, subtrahend), computed on the device.
    default_bands: bands that a network reads unless its configuration says
      otherwise; empty: `bands`.
    no_data: stored value of missing measurements, besides those that a file
      declares.
    dates: of a series, its file of dates in the folder of the metadata.
    num_dates: of a series, mean number of dates of a patch, for FLOP counts
      before the data are known.
    quality_mask: of a series, optional.
  """

  id: _Id
  kind: Literal["image", "series"] = "image"
  bands: tuple[_Name, ...] = pydantic.Field(min_length=1, max_length=1024)
  gsd: _Positive
  dtype: Literal["uint8", "uint16", "int16", "float32"]
  unit: str = ""
  pixels: int | None = pydantic.Field(default=None, ge=1, le=2**15)
  mean: Mapping[str, _Number] = {}
  std: Mapping[str, _Positive] = {}
  derived_bands: Mapping[_Name, tuple[str, str]] = {}
  default_bands: tuple[str, ...] = ()
  no_data: _Number | None = None
  dates: _File | None = None
  num_dates: int | None = pydantic.Field(default=None, ge=1, le=2**14)
  quality_mask: QualityMask | None = None

  @property
  def is_series(self) -> bool:
    """Whether a patch has several dates."""
    return self.kind == "series"

  @property
  def numpy_dtype(self) -> np.dtype:
    """Type of the stored values as NumPy names it."""
    return np.dtype(self.dtype)

  @property
  def network_bands(self) -> tuple[str, ...]:
    """Bands that a network reads by default."""
    return self.default_bands or self.bands

  @pydantic.field_validator("mean", "std", mode="before")
  @classmethod
  def _by_band(cls, value: Any, info: Any) -> Any:
    """A list has one number per band, in file order."""
    if not isinstance(value, (list, tuple)):
      return value
    bands = info.data.get("bands", ())
    if len(value) != len(bands):
      raise ValueError(
        f"expected {len(bands)} numbers for {len(bands)} bands, found"
        f" {len(value)}"
      )
    return dict(zip(bands, value, strict=True))

  @pydantic.model_validator(mode="after")
  def _is_consistent(self) -> "Sensor":
    check_distinct("bands", (*self.bands, *self.derived_bands))
    for name, pair in self.derived_bands.items():
      check_known(f"derived_bands.{name}", pair, self.bands)
    every = (*self.bands, *self.derived_bands)
    check_distinct("default_bands", self.default_bands)
    check_known("default_bands", self.default_bands, every)
    for field, numbers in (("mean", self.mean), ("std", self.std)):
      check_known(field, numbers, every)
    if set(self.mean) != set(self.std):
      raise ValueError(
        f"std: expected numbers for {', '.join(self.mean) or 'no band'}, as"
        f" mean has, found {', '.join(self.std) or 'none'}"
      )
    if self.mean:
      check_known("mean: bands of the network", self.network_bands, self.mean)
    if not self.is_series:
      for field in ("dates", "num_dates", "quality_mask"):
        if getattr(self, field) is not None:
          raise ValueError(f"{field}: expected none, as an image has no dates")
    elif self.dates is None:
      raise ValueError("dates: expected a file name, found none")
    if self.no_data is not None and self.dtype != "float32":
      limits = np.iinfo(self.dtype)
      if not (
        self.no_data == int(self.no_data)
        and limits.min <= self.no_data <= limits.max
      ):
        raise ValueError(
          f"no_data: expected a value of {self.dtype}, found {self.no_data:g}"
        )
    return self


class LabelClass(_Part):
  """One class of a task.

  Attributes:
    name: in English, or the language of the data set.
    names: language (`fr`, `de`, …) -> name in that language.
    colour: `#rrggbb`.
    is_scored: whether it counts in the loss and the metrics.
    values: stored values of the class; several merge them. Empty: its position
      in the list of classes.
    parent: name of the class of `LabelTask.parent` to which it belongs.
  """

  name: _Name
  names: Mapping[str, str] = {}
  colour: str = pydantic.Field(pattern=_COLOUR)
  is_scored: bool = True
  values: tuple[_Stored, ...] = ()
  parent: str | None = None


class LabelTask(_Part):
  """Classes of the pixels of one band of a label raster.

  Attributes:
    id: used in configurations, batches and names of scores.
    title: for headings and legends; empty: the id.
    column: column of the split CSV and stream of the records; empty: the id.
      Several tasks may read one column.
    classes: in order of the network's channels.
    gsd: ground sampling distance, in metres.
    band: index of the band, from 0.
    num_bands: number of bands of the file.
    ignored: stored values that belong to no class.
    parent: id of the task on the level above; its classes are those that
      `LabelClass.parent` names.
  """

  id: _Id
  title: str = ""
  column: str = ""
  classes: tuple[LabelClass, ...] = pydantic.Field(
    min_length=1, max_length=_MAX_CLASSES
  )
  gsd: _Positive
  band: int = pydantic.Field(default=0, ge=0, le=255)
  num_bands: int = pydantic.Field(default=1, ge=1, le=256)
  ignored: tuple[_Stored, ...] = ()
  parent: str | None = None

  @property
  def short_name(self) -> str:
    """Title of headings and legends."""
    return self.title or self.id

  @property
  def stream(self) -> str:
    """Column of the split CSV, and stream of the records."""
    return self.column or self.id

  @property
  def num_classes(self) -> int:
    """Number of classes, those not scored included."""
    return len(self.classes)

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names of the classes, in order."""
    return tuple(each.name for each in self.classes)

  @property
  def scored(self) -> Bool[np.ndarray, "k"]:
    """Mask of the classes of the loss and the metrics."""
    return np.array([each.is_scored for each in self.classes])

  @property
  def palette(self) -> UInt8[np.ndarray, "k 3"]:
    """Colours of the classes: red, green, blue."""
    return np.array(
      [tuple(bytes.fromhex(each.colour[1:])) for each in self.classes],
      np.uint8,
    )

  def stored_values(self, index: int) -> tuple[int, ...]:
    """Stored values of a class."""
    return self.classes[index].values or (index,)

  @property
  def label_of_value(self) -> UInt8[np.ndarray, "n"]:
    """Stored value -> class, `NO_LABEL` or `UNKNOWN_LABEL`; n: 256 or 65536."""
    by_class = [self.stored_values(i) for i in range(self.num_classes)]
    largest = max(
      value for values in (*by_class, self.ignored, (0,)) for value in values
    )
    table = np.full(256 if largest < 256 else 65536, UNKNOWN_LABEL, np.uint8)
    table[list(self.ignored)] = NO_LABEL
    for index, values in enumerate(by_class):
      table[list(values)] = index
    return table

  @pydantic.model_validator(mode="after")
  def _is_consistent(self) -> "LabelTask":
    check_distinct("classes", self.class_names)
    if self.band >= self.num_bands:
      raise ValueError(
        f"band: expected 0-{self.num_bands - 1} of {self.num_bands} bands,"
        f" found {self.band}"
      )
    owner: dict[int, str] = dict.fromkeys(self.ignored, "ignored")
    for index, each in enumerate(self.classes):
      for value in self.stored_values(index):
        if value in owner:
          raise ValueError(
            f"classes.{each.name}.values: expected values of no other class,"
            f" found {value}, which belongs to {owner[value]!r}"
          )
        owner[value] = each.name
      if (each.parent is None) != (self.parent is None):
        raise ValueError(
          f"classes.{each.name}.parent: expected a class of the task's parent"
          f" {self.parent}, found {each.parent}"
        )
    return self


class Schema(_Part):
  """Sensors and label tasks of a data set.

  Attributes:
    name: for messages.
    sensor_rows: `sensors` of the file. The first image that a network reads
      gives the grid and the widths on which the others are fused.
    task_rows: `tasks` of the file.
  """

  model_config = pydantic.ConfigDict(validate_by_name=False)

  name: _Name
  sensor_rows: tuple[Sensor, ...] = pydantic.Field(alias="sensors")
  task_rows: tuple[LabelTask, ...] = pydantic.Field(default=(), alias="tasks")

  @functools.cached_property
  def sensors(self) -> Mapping[str, Sensor]:
    """Sensors by id, in order."""
    return {row.id: row for row in self.sensor_rows}

  @functools.cached_property
  def tasks(self) -> Mapping[str, LabelTask]:
    """Tasks by id, in order."""
    return {row.id: row for row in self.task_rows}

  @property
  def quality_masks(self) -> Mapping[str, Sensor]:
    """Column of each quality mask -> the series to which it belongs."""
    return {
      sensor.quality_mask.id: sensor
      for sensor in self.sensors.values()
      if sensor.quality_mask is not None
    }

  @property
  def label_columns(self) -> Mapping[str, tuple[LabelTask, ...]]:
    """Column of each label raster -> the tasks that read it."""
    columns: dict[str, tuple[LabelTask, ...]] = {}
    for task in self.tasks.values():
      columns[task.stream] = (*columns.get(task.stream, ()), task)
    return columns

  @property
  def columns(self) -> tuple[str, ...]:
    """Columns of a split CSV: sensors, quality masks, labels."""
    return (*self.sensors, *self.quality_masks, *self.label_columns)

  @pydantic.model_validator(mode="after")
  def _is_consistent(self) -> "Schema":
    if not self.sensor_rows:
      raise ValueError("sensors: expected at least one, found none")
    check_distinct("sensors", [row.id for row in self.sensor_rows])
    check_distinct("tasks", [row.id for row in self.task_rows])
    check_distinct("columns", (*self.columns, "patch_id", "PATCH"))
    for task in self.tasks.values():
      if task.parent is not None:
        self._check_parent(task)
    for column, tasks in self.label_columns.items():
      if len({(task.num_bands, task.gsd) for task in tasks}) > 1:
        raise ValueError(
          f"tasks: expected the same num_bands and gsd of all tasks of {column}"
        )
    return self

  def _check_parent(self, task: LabelTask) -> None:
    where = f"tasks.{task.id}.parent"
    check_known(where, [task.parent], self.tasks)
    above = self.tasks[task.parent]
    chain = [task.id]
    while above is not None:
      if above.id in chain:
        raise ValueError(
          f"{where}: expected no cycle, found {above.id!r} twice"
        )
      chain.append(above.id)
      above = self.tasks.get(above.parent) if above.parent else None
    names = self.tasks[task.parent].class_names
    for each in task.classes:
      check_known(
        f"tasks.{task.id}.classes.{each.name}.parent", [each.parent], names
      )
