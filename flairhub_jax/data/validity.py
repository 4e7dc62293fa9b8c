"""What becomes of values without data, and values that look like them."""

from collections.abc import Iterator

import numpy as np

from flairhub_jax.data import time_series
from flairhub_jax.labels import TASKS
from flairhub_jax.modalities import MODALITIES, SNOW_CLOUD_MASK

# What people write where nothing was measured, beside 0 in all bands.
_USUAL_VALUES = (-9999, -32768, -32767, 65535, np.finfo(np.float32).min)
# Zeros are measured too: a few of them tell nothing.
_MIN_SHARE_OF_ZEROS = 0.01

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


def fill(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
  """Fills whole numbers as `time_series.fill_missing_pixels` does others.

  Args:
    values: [t h w c] of at most 16 bits, which float32 holds exactly.
    missing: bool of that shape.

  Returns:
    The same type; a median between two numbers is rounded to the even one.
  """
  marked = np.where(missing, np.float32(np.nan), values.astype(np.float32))
  filled = np.rint(time_series.fill_missing_pixels(marked))
  return filled.astype(values.dtype)


def suspicious_shares(
  values: np.ndarray, missing: np.ndarray | None
) -> Iterator[tuple[str, float]]:
  """Yields values that look like no-data, and their shares of [h w c].

  Args:
    values: as they are stored.
    missing: what is known to be without data, and not looked at; or None.
  """
  known = np.ones(values.shape, bool) if missing is None else ~missing
  for value in _USUAL_VALUES:
    if not np.can_cast(np.min_scalar_type(value), values.dtype, "same_kind"):
      continue
    found = (values == value) & known
    if found.any():
      yield f"the value {value:g}", float(found.mean())
  zeros = (values == 0).all(-1) & known.all(-1)
  if zeros.mean() >= _MIN_SHARE_OF_ZEROS:
    yield "0 in all bands", float(zeros.mean())
