"""Checked conversion of rasters to the values of a record.

Functions of the arrays of one patch. `path` names the raster in error messages;
`values` are the stored ones, bands of a series ordered by date; `missing` is
the file's mask of no-data values, or None; `shape` is the shape required of all
patches. Mismatches raise InputError.
"""

import numpy as np
from jaxtyping import Bool, Num, Shaped, UInt8

from flairhub_jax.data import time_series, validity
from flairhub_jax.errors import InputError
from flairhub_jax.labels import LabelTask
from flairhub_jax.modalities import MASKED_MODALITY, SNOW_CLOUD_BANDS, Modality

# No-data label: not a class, ignored in loss and metrics.
NO_LABEL = 255

Shape = tuple[int, int, int]
Arrays = dict[str, np.ndarray]


def image_values(
  path: str,
  values: Num[np.ndarray, "h w n"],
  modality: Modality,
  shape: Shape,
) -> Num[np.ndarray, "h w n"]:
  """Returns the values of an image; checks their type and shape."""
  _check_dtype(path, values, modality.dtype)
  if values.shape[2] != len(modality.bands):
    raise InputError(
      path, f"{len(modality.bands)} bands {modality.bands}", values.shape[2]
    )
  _check_shape(path, values.shape, shape)
  return _without_infinity(values)


def series_values(
  path: str,
  values: Num[np.ndarray, "h w n"],
  modality: Modality,
  shape: Shape,
  *,
  patch_id: str,
  num_dates: int,
) -> Num[np.ndarray, "t h w c"]:
  """Returns the values of a series by date; checks type, shape and dates.

  `num_dates` is the number of the patch's dates in the metadata.
  """
  _check_dtype(path, values, modality.dtype)
  series = split_dates(path, values, modality.bands)
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


def snow_cloud_values(
  path: str,
  values: Num[np.ndarray, "h w n"],
  missing: Bool[np.ndarray, "h w n"] | None,
  shape: Shape,
) -> UInt8[np.ndarray, "t h w 2"]:
  """Returns probabilities of snow and of cloud, 0-100; missing ones are 100.

  `shape` is (t, h, w) of the series that it belongs to.
  """
  _check_dtype(path, values, "uint8", "uint16")
  if missing is not None:
    # Missing probabilities count as not clear.
    values = np.where(missing, 100, values)
  mask = split_dates(path, values, SNOW_CLOUD_BANDS)
  if mask.shape[0] != shape[0]:
    raise InputError(
      path,
      f"{shape[0]} dates, as {MASKED_MODALITY} has",
      f"{mask.shape[0]} ({values.shape[2]} bands)",
    )
  _check_shape(path, mask.shape[1:], (*shape[1:], len(SNOW_CLOUD_BANDS)))
  if mask.max() > 255:
    raise InputError(path, "probabilities of 0-100", mask.max())
  return mask.astype(np.uint8)


def label_values(
  path: str,
  values: Num[np.ndarray, "h w n"],
  missing: Bool[np.ndarray, "h w n"] | None,
  task: LabelTask,
  shape: Shape,
) -> UInt8[np.ndarray, "h w n"]:
  """Returns the labels of a task; no-data pixels are `NO_LABEL`."""
  _check_dtype(path, values, "uint8")
  _check_shape(path, values.shape, shape)
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
  return values


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
