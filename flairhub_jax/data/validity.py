"""Values without data: how they are treated, and values that look like them."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Integer, Num

from flairhub_jax.data import time_series
from flairhub_jax.labels import TASKS
from flairhub_jax.modalities import MODALITIES, SNOW_CLOUD_MASK

# Common values for no data, beside 0 in all bands.
_USUAL_VALUES = (-9999, -32768, -32767, 65535, np.finfo(np.float32).min)
# Zeros are measured too: a few of them are no sign of missing data.
_MIN_FRACTION_OF_ZEROS = 0.01

TREATMENT = {
  **dict.fromkeys(MODALITIES, "filled with the median of the band"),
  **{
    name: "filled with the median of date and band; dates mostly without data "
    "are left out"
    for name, modality in MODALITIES.items()
    if modality.is_series
  },
  **dict.fromkeys(TASKS, "ignored in loss and metrics"),
  SNOW_CLOUD_MASK: "taken as covered",
}


def fill(
  values: Integer[np.ndarray, "t h w c"], missing: Bool[np.ndarray, "t h w c"]
) -> Integer[np.ndarray, "t h w c"]:
  """Fills whole numbers as `time_series.fill_missing_pixels` does others.

  Args:
    values: of at most 16 bits, which float32 holds exactly.
    missing: where they are filled.

  Returns:
    The same type; a median between two numbers is rounded to the even one.
  """
  marked = np.where(missing, np.float32(np.nan), values.astype(np.float32))
  filled = np.rint(time_series.fill_missing_pixels(marked))
  return filled.astype(values.dtype)


def suspicious_fractions(
  values: Num[np.ndarray, "h w n"], missing: Bool[np.ndarray, "h w n"] | None
) -> Iterator[tuple[str, float]]:
  """Yields values that look like no-data, and their fractions.

  Args:
    values: as they are stored.
    missing: values known to be without data, which are skipped; or None.
  """
  known = np.ones(values.shape, bool) if missing is None else ~missing
  for value in _USUAL_VALUES:
    if not np.can_cast(np.min_scalar_type(value), values.dtype, "same_kind"):
      continue
    found = (values == value) & known
    if found.any():
      yield f"the value {value:g}", float(found.mean())
  zeros = (values == 0).all(-1) & known.all(-1)
  if zeros.mean() >= _MIN_FRACTION_OF_ZEROS:
    yield "0 in all bands", float(zeros.mean())
