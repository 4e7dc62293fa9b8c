"""From the values of a file to those that a sensor stores."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Num

from flairhub_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Conversion:
  """Bands of a file to take, and value * factor + offset.

  Attributes:
    bands: indices of bands of the file, from 0; some may come twice.
    dtype: type of the results. Whole numbers are rounded, and those beyond the
      type become its limits.
    factor: by which values are multiplied.
    offset: added then.
  """

  bands: tuple[int, ...]
  dtype: np.dtype
  factor: float = 1.0
  offset: float = 0.0

  def apply(
    self, values: Num[np.ndarray, "n h w"], missing: Bool[np.ndarray, "n h w"]
  ) -> tuple[Num[np.ndarray, "c h w"], Bool[np.ndarray, "c h w"]]:
    """Converts a block, and selects the mask of its values without data."""
    bands = list(self.bands)
    values, missing = values[bands], missing[bands]
    is_same = (self.factor, self.offset) == (1, 0)
    if is_same and np.can_cast(values.dtype, self.dtype, "safe"):
      return values.astype(self.dtype), missing
    values = np.where(missing, 0, values * self.factor + self.offset)
    if self.dtype.kind != "f":
      limits = np.iinfo(self.dtype)
      values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(self.dtype), missing


def parse_bands(text: str, *, where: str) -> tuple[int, ...]:
  """Reads numbers of bands from 1, as `4,1,2`; returns indices from 0.

  Raises:
    InputError: something else.
  """
  words = [word.strip() for word in text.split(",")]
  if not all(word.isdecimal() and 1 <= int(word) < 2**16 for word in words):
    raise InputError(where, "numbers of bands from 1, as 4,1,2", repr(text))
  return tuple(int(word) - 1 for word in words)


def parse_scale(text: str, *, where: str) -> tuple[float, float]:
  """Reads a factor and an optional offset, as `0.1` or `1,-1000`.

  Raises:
    InputError: something else.
  """
  try:
    numbers = [float(word) for word in text.split(",")]
  except ValueError:
    numbers = []
  if not (
    len(numbers) in (1, 2) and np.isfinite(numbers).all() and numbers[0] != 0
  ):
    raise InputError(where, "FACTOR or FACTOR,OFFSET, as 1,-1000", repr(text))
  return numbers[0], numbers[1] if len(numbers) == 2 else 0.0
