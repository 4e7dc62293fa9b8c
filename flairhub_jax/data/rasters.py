"""Checked conversion of rasters to the values of a record.

Functions of the arrays of one patch. `path` names the raster in error messages;
`values` are the stored ones, bands of a series ordered by date; `missing` is
the file's mask of no-data values, or None; `shape` is the shape required of all
patches. Mismatches raise InputError.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer, Num, Shaped, UInt8

from flairhub_jax.data import label_values, time_series, validity
from flairhub_jax.errors import InputError
from flairhub_jax.schema import LabelTask, QualityMask, Sensor

Shape = tuple[int, int, int]
Arrays = dict[str, np.ndarray]


def image_values(
  path: str,
  values: Num[np.ndarray, "h w n"],
  sensor: Sensor,
  shape: Shape,
) -> Num[np.ndarray, "h w n"]:
  """Returns the values of an image; checks their type and shape."""
  _check_dtype(path, values, sensor.dtype)
  if values.shape[2] != len(sensor.bands):
    raise InputError(
      path, f"{len(sensor.bands)} bands {sensor.bands}", values.shape[2]
    )
  _check_shape(path, values.shape, shape)
  return _without_infinity(values)


def series_values(
  path: str,
  values: Num[np.ndarray, "h w n"],
  sensor: Sensor,
  shape: Shape,
  *,
  patch_id: str,
  num_dates: int,
) -> Num[np.ndarray, "t h w c"]:
  """Returns the values of a series by date; checks type, shape and dates.

  `num_dates` is the number of the patch's dates in the metadata.
  """
  _check_dtype(path, values, sensor.dtype)
  series = split_dates(path, values, sensor.bands)
  _check_shape(path, series.shape[1:], shape)
  if num_dates != len(series):
    raise InputError(
      path,
      f"{num_dates} dates, as the metadata has for patch {patch_id}",
      f"{len(series)} ({values.shape[2]} bands)",
    )
  return _without_infinity(series)


def fill_series(
  arrays: Arrays, missing: Bool[np.ndarray, "t h w c"]
) -> tuple[Arrays, Bool[np.ndarray, "n h w c"]]:
  """Drops dates with mostly missing values and fills the remaining ones.

  Args:
    arrays: integer `values` [t h w c], and other arrays with an axis of dates.
    missing: mask of the no-data values.

  Returns:
    The arrays of the remaining dates, and their `missing`.
  """
  fractions = missing.mean((1, 2, 3))
  date_mask = fractions <= time_series.MAX_FRACTION_MISSING
  arrays = {name: each[date_mask] for name, each in arrays.items()}
  missing = missing[date_mask]
  return arrays | {"values": validity.fill(arrays["values"], missing)}, missing


def quality_values(
  path: str,
  values: Num[np.ndarray, "h w n"],
  missing: Bool[np.ndarray, "h w n"] | None,
  sensor: Sensor,
  mask: QualityMask,
  shape: Shape,
) -> UInt8[np.ndarray, "t h w m"]:
  """Returns the quality of each pixel; missing ones are covered.

  `shape` is (t, h, w) of the series of the sensor.
  """
  _check_dtype(path, values, "uint8", "uint16")
  if missing is not None:
    # A pixel of unknown quality counts as not clear.
    values = np.where(missing, mask.full, values)
  quality = split_dates(path, values, mask.bands)
  if quality.shape[0] != shape[0]:
    raise InputError(
      path,
      f"{shape[0]} dates, as {sensor.id} has",
      f"{quality.shape[0]} ({values.shape[2]} bands)",
    )
  _check_shape(path, quality.shape[1:], (*shape[1:], len(mask.bands)))
  if quality.max() > 255:
    raise InputError(path, f"values of 0-{mask.full}", quality.max())
  return quality.astype(np.uint8)


def labels_of(
  path: str,
  values: Num[np.ndarray, "h w n"],
  missing: Bool[np.ndarray, "h w n"] | None,
  tasks: Sequence[LabelTask],
  shape: Shape,
) -> tuple[Integer[np.ndarray, "h w n"], dict[tuple[int, int], int]]:
  """Returns labels as records hold them, and values without a class.

  See `label_values.store`; `tasks` are those of the column.
  """
  if not np.issubdtype(values.dtype, np.integer):
    raise InputError(path, "labels of whole numbers", values.dtype.name)
  _check_shape(path, values.shape, shape)
  number, least = values.shape[2], min(task.band for task in tasks) + 1
  most = tasks[0].num_bands
  if not least <= number <= most:
    expected = f"{least}-{most} bands" if least < most else f"{most} bands"
    raise InputError(path, expected, number)
  return label_values.store(values, missing, tasks)


def check_band_names(
  path: str, names: Sequence[str | None], bands: Sequence[str]
) -> None:
  """Checks that bands which the file names like the schema have its order."""
  known = {band.lower() for band in bands}
  for i, name in enumerate(names):
    expected = bands[i % len(bands)]
    word = (name or "").strip().lower()
    if word in known and word != expected.lower():
      raise InputError(
        path,
        f"bands in the order {', '.join(bands)}",
        f"{name} as band {i + 1}, by its description",
      )


def split_dates(
  path: str, values: Shaped[np.ndarray, "h w n"], bands: tuple[str, ...]
) -> Shaped[np.ndarray, "t h w c"]:
  """Splits a raster into dates, each with these bands."""
  height, width, total = values.shape
  if total % len(bands):
    raise InputError(
      path, f"a multiple of {len(bands)} bands {bands}", f"{total} bands"
    )
  by_date = values.reshape(height, width, total // len(bands), len(bands))
  return by_date.transpose(2, 0, 1, 3)


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


def _without_infinity(values: np.ndarray) -> np.ndarray:
  """Replaces infinite values by NaN, the only mark of missing measurements."""
  if np.issubdtype(values.dtype, np.floating) and np.isinf(values).any():
    return np.where(np.isinf(values), np.float32(np.nan), values)
  return values
