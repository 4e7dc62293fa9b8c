"""Derivation of a schema from the files of a CSV, for its user to edit."""

import pathlib
from collections.abc import Sequence

import numpy as np

from flairhub_jax import terminal
from flairhub_jax.data import (
  column_sample,
  derive_labels,
  geotiff,
  split_csv,
  validity,
)
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.schema import QualityMask, Schema, Sensor

_USUAL_BANDS = {1: ("B1",), 3: ("R", "G", "B"), 4: ("R", "G", "B", "NIR")}
_DTYPES = ("uint8", "uint16", "int16", "float32")


def derive(
  csv: pathlib.Path,
  *,
  name: str,
  metadata: pathlib.Path | None = None,
  progress: bool = True,
) -> tuple[Schema, list[str]]:
  """Derives a schema from a sample of the files of a split CSV.

  Args:
    csv: header `patch_id` and one column per sensor, mask or label raster.
    name: of the schema.
    metadata: folder of the files of dates; None looks for `GLOBAL_ALL_MTD`
      beside the CSV and in the two folders above.
    progress: whether to show a progress bar on stderr.

  Returns:
    The schema, and a line `<column>, <field>: …` per assumption.

  Raises:
    InputError: the CSV or a file cannot be read, or no column is a sensor.
    InputErrors: files of one column contradict each other, one line each.
  """
  split = split_csv.read_split(csv, columns=None)
  folder = metadata or column_sample.find_metadata(csv)
  columns = [
    column_sample.read_column(split, column, folder) for column in split.cells
  ]
  columns = [column for column in columns if column.paths]
  extent = column_sample.find_extent(columns)
  guesses: list[str] = []
  masks, sensors, tasks = [], [], []
  for column in terminal.progress_bar(
    columns, desc="schema", unit="column", disable=not progress
  ):
    if column.is_named_mask and not column.is_named_label:
      masks.append(column)
      continue
    label = derive_labels.derive_task(column, extent, guesses)
    if label is None:
      sensors.append(_sensor(column, folder, extent, guesses))
    else:
      tasks.append(label)
  sensors = [_with_mask(sensor, columns, masks, guesses) for sensor in sensors]
  for column in masks:
    guesses.append(
      f"{column.name}: taken for no sensor and no mask of a series; left out"
    )
  if not sensors:
    raise InputError(csv, "at least one column of imagery", list(split.cells))
  return Schema(name=name, sensors=tuple(sensors), tasks=tuple(tasks)), guesses


def _sensor(
  column: column_sample.Column,
  metadata: pathlib.Path | None,
  extent: float | None,
  guesses: list[str],
) -> Sensor:
  dtypes = {header.dtype for header in column.headers}
  if len(dtypes) > 1 or not dtypes <= set(_DTYPES):
    raise InputError(
      f"column {column.name}",
      f"files of one type, {', '.join(_DTYPES)}",
      ", ".join(sorted(dtypes)),
    )
  is_series = column.num_dates is not None
  num_bands = _num_bands(column)
  if len(set(h.num_bands for h in column.headers)) > 1 and not is_series:
    raise InputError(
      f"column {column.name}",
      "files of one number of bands, or of a series a file of dates in the"
      " folder of the metadata",
      sorted({h.num_bands for h in column.headers}),
    )
  bands = _bands(column, num_bands, guesses)
  mean, std = _statistics(column, num_bands, guesses)
  sizes = {
    (h.georeference.height, h.georeference.width) for h in column.headers
  }
  pixels = next(iter(sizes)) if len(sizes) == 1 else (0, 1)
  if len(sizes) > 1:
    guesses.append(
      f"{column.name}, pixels: files have {len(sizes)} sizes; all patches of a"
      " data set need one"
    )
  return Sensor(
    id=column.name,
    kind="series" if is_series else "image",
    bands=bands,
    gsd=column_sample.find_gsd(column, extent, guesses),
    pixels=pixels[0] if pixels[0] == pixels[1] else None,
    dtype=dtypes.pop(),  # type: ignore[arg-type]
    mean=dict(zip(bands, mean, strict=True)),
    std=dict(zip(bands, std, strict=True)),
    dates=column_sample.find_dates(column.name, metadata)
    if is_series
    else None,
    num_dates=max(1, round(np.mean(column.num_dates))) if is_series else None,
  )


def _num_bands(column: column_sample.Column) -> int:
  """Number of bands, for a series per date.

  Raises:
    InputErrors: files of a series whose bands do not fit their dates.
  """
  if column.num_dates is None:
    return column.headers[0].num_bands
  per_date = set()
  lines = []
  for path, header, number in zip(
    column.paths, column.headers, column.num_dates, strict=True
  ):
    if number == 0 or header.num_bands % number:
      lines.append(
        f"{path}: expected a multiple of {number} bands, one set per date,"
        f" found {header.num_bands}"
      )
    else:
      per_date.add(header.num_bands // number)
  if lines:
    raise InputErrors(lines)
  if len(per_date) > 1:
    raise InputError(
      f"column {column.name}", "one number of bands per date", sorted(per_date)
    )
  return per_date.pop()


def _bands(
  column: column_sample.Column, num_bands: int, guesses: list[str]
) -> tuple[str, ...]:
  names = column.band_names[:num_bands]
  if all(names) and len(set(names)) == num_bands:
    return names
  if column.num_dates is None and num_bands in (3, 4):
    names = _USUAL_BANDS[num_bands]
  else:
    names = tuple(f"B{i + 1}" for i in range(num_bands))
  guesses.append(
    f"{column.name}, bands: the files do not name them; {', '.join(names)} is"
    " assumed, in file order"
  )
  return names


def _statistics(
  column: column_sample.Column, num_bands: int, guesses: list[str]
) -> tuple[list[float], list[float]]:
  """Mean and standard deviation of each band over the sample."""
  count, total, squares = (np.zeros(num_bands) for _ in range(3))
  suspicious: dict[str, float] = {}
  for path in column.paths:
    values, missing, _ = geotiff.read_measurements(path)
    for text, fraction in validity.suspicious_fractions(values, missing):
      suspicious[text] = suspicious.get(text, 0) + fraction / len(column.paths)
    by_band = values.astype(np.float64).reshape(-1, num_bands)
    if missing is not None:
      by_band[missing.reshape(-1, num_bands)] = np.nan
    by_band[~np.isfinite(by_band)] = np.nan
    count += np.isfinite(by_band).sum(0)
    total += np.nansum(by_band, 0)
    squares += np.nansum(by_band**2, 0)
  for text, fraction in suspicious.items():
    guesses.append(
      f"{column.name}, no_data: {text} is {fraction:.2%} of the values and"
      " counts as measured; set no_data if it means missing"
    )
  mean = total / np.maximum(count, 1)
  variance = squares / np.maximum(count, 1) - mean**2
  std = np.sqrt(np.maximum(variance, 0))
  if (std == 0).any():
    guesses.append(f"{column.name}, std: a band is constant; 1 is assumed")
  std = np.where(std > 0, std, 1)
  return [column_sample.rounded(x) for x in mean], [
    column_sample.rounded(x) for x in std
  ]


def _with_mask(
  sensor: Sensor,
  columns: Sequence[column_sample.Column],
  masks: list[column_sample.Column],
  guesses: list[str],
) -> Sensor:
  """Gives a series the mask whose name starts like its own, if any."""
  if not sensor.is_series:
    return sensor
  series = next(column for column in columns if column.name == sensor.id)
  for mask in masks:
    if mask.name.split("_")[0] != sensor.id.split("_")[0]:
      continue
    numbers = {
      header.num_bands / max(number, 1)
      for header, number in zip(mask.headers, series.num_dates, strict=False)
    }
    if len(numbers) != 1 or not (number := numbers.pop()).is_integer():
      continue
    masks.remove(mask)
    bands = _mask_bands(mask.name, int(number))
    guesses.append(
      f"{mask.name}: taken for the quality mask of {sensor.id}, with the bands"
      f" {', '.join(bands)}, from 0 (clear) to 100"
    )
    return sensor.model_copy(
      update={"quality_mask": QualityMask(id=mask.name, bands=bands)}
    )
  return sensor


def _mask_bands(name: str, number: int) -> tuple[str, ...]:
  """Bands of a mask; `MSK-SC` of IGN holds snow and cloud."""
  if number == 1:
    return ("cloud",)
  if number == 2:
    return ("snow", "cloud")
  return tuple(f"cover {i + 1}" for i in range(number))
