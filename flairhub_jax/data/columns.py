"""Properties of the rasters in the columns of a split, by the schema."""

import dataclasses

from flairhub_jax.schema import Schema
from flairhub_jax.schema_file import GSD_TOLERANCE


@dataclasses.dataclass(frozen=True)
class Published:
  """Ground sampling distance and extent that a schema gives a raster.

  Attributes:
    gsd: in metres.
    metres: side of the square that a patch covers; None if it may be any.
  """

  gsd: float
  metres: float | None


def num_bands(schema: Schema, column: str) -> int:
  """Returns the number of bands of a file, for a series per date."""
  if column in schema.sensors:
    return len(schema.sensors[column].bands)
  if column in schema.quality_masks:
    mask = schema.quality_masks[column].quality_mask
    assert mask is not None
    return len(mask.bands)
  return schema.label_columns[column][0].num_bands


def grid_order(schema: Schema) -> tuple[str, ...]:
  """Returns sources of a patch's georeference, in order of preference.

  These are the labels, then the images and then the series, each from the
  smallest GSD to the largest.
  """
  sensors = schema.sensors
  return (
    *schema.label_columns,
    *sorted(sensors, key=lambda id: (sensors[id].is_series, sensors[id].gsd)),
  )


def label_gsd(schema: Schema) -> float:
  """Returns the GSD of predictions where a data set has no labels."""
  if schema.task_rows:
    return schema.task_rows[0].gsd
  return min(sensor.gsd for sensor in schema.sensor_rows)


def square(schema: Schema) -> float | None:
  """Returns the side in metres of the ground of all sensors, if it is one."""
  sides = [
    sensor.pixels * sensor.gsd
    for sensor in schema.sensor_rows
    if sensor.pixels is not None
  ]
  if not sides or max(sides) > (1 + GSD_TOLERANCE) * min(sides):
    return None
  return sides[0]


def published(schema: Schema, column: str) -> Published:
  """Returns the GSD and the extent of a column's rasters."""
  if column in schema.label_columns:
    return Published(schema.label_columns[column][0].gsd, square(schema))
  sensor = schema.quality_masks.get(column) or schema.sensors[column]
  if sensor.pixels is None:
    return Published(sensor.gsd, square(schema))
  return Published(sensor.gsd, sensor.pixels * sensor.gsd)
