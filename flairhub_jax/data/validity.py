"""Treatment of no-data values, and detection of undeclared ones."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Integer, Num

from flairhub_jax.data import time_series
from flairhub_jax.schema import Schema

# Common no-data values, besides 0 in all bands.
_USUAL_VALUES = (-9999, -32768, -32767, 65535, np.finfo(np.float32).min)
# Zero is also a valid measurement: a few zeros do not indicate missing data.
_MIN_FRACTION_OF_ZEROS = 0.01


def treatment(schema: Schema, column: str) -> str:
  """Describes the treatment of the no-data values of a column."""
  if column in schema.quality_masks:
    return "taken as covered"
  if column not in schema.sensors:
    return "ignored in loss and metrics"
  if schema.sensors[column].is_series:
    return (
      "filled with the median of date and band; dates mostly without data are "
      "left out"
    )
  return "filled with the median of the band"


def fill(
  values: Integer[np.ndarray, "t h w c"], missing: Bool[np.ndarray, "t h w c"]
) -> Integer[np.ndarray, "t h w c"]:
  """Fills integers like `time_series.fill_missing_pixels` fills floats.

  Args:
    values: integers of at most 16 bits, which float32 represents exactly.
    missing: mask of the values to fill.

  Returns:
    Values of the same type; medians are rounded half to even.
  """
  marked = np.where(missing, np.float32(np.nan), values.astype(np.float32))
  filled = np.rint(time_series.fill_missing_pixels(marked))
  return filled.astype(values.dtype)


def suspicious_fractions(
  values: Num[np.ndarray, "h w n"], missing: Bool[np.ndarray, "h w n"] | None
) -> Iterator[tuple[str, float]]:
  """Yields descriptions of likely no-data values, and their fractions.

  Args:
    values: stored values.
    missing: mask of declared no-data values, which are skipped; or None.
  """
  known = np.ones(values.shape, bool) if missing is None else ~missing
  for value in _USUAL_VALUES:
    if not np.can_cast(np.min_scalar_type(value), values.dtype, "same_kind"):
      continue
    matches = (values == value) & known
    if matches.any():
      yield f"the value {value:g}", float(matches.mean())
  zeros = (values == 0).all(-1) & known.all(-1)
  if zeros.mean() >= _MIN_FRACTION_OF_ZEROS:
    yield "0 in all bands", float(zeros.mean())
