"""Mean, spread and 95 % interval over seeds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What a few values say about their mean.

  Attributes:
    count: how many values.
    mean: theirs.
    std: standard deviation with count - 1; None of one value.
    half_width: of the 95 % interval around the mean; None of one value.
  """

  count: int
  mean: float
  std: float | None
  half_width: float | None

  @property
  def low(self) -> float | None:
    """Lower end of the interval."""
    return None if self.half_width is None else self.mean - self.half_width

  @property
  def high(self) -> float | None:
    """Upper end of the interval."""
    return None if self.half_width is None else self.mean + self.half_width

  @property
  def excludes_zero(self) -> bool | None:
    """Whether 0 lies outside the interval; None without one."""
    if self.half_width is None:
      return None
    return self.low > 0 or self.high < 0


def estimate(values: Sequence[float]) -> Estimate:
  """Estimates the mean of a normal distribution from a sample.

  The interval is Student's, because the spread is estimated from the same
  few seeds: with three of them it is 2.5 standard deviations to either side.

  Raises:
    ValueError: there is no value.
  """
  count = len(values)
  if not count:
    raise ValueError("an estimate needs at least one value")
  mean = math.fsum(values) / count
  if count == 1:
    return Estimate(1, mean, None, None)
  std = float(np.std(np.asarray(values, np.float64), ddof=1))
  quantile = float(special.stdtrit(count - 1, (1 + CONFIDENCE) / 2))
  return Estimate(count, mean, std, quantile * std / math.sqrt(count))


def paired_difference(
  values: Mapping[int, float], baseline: Mapping[int, float]
) -> Estimate | None:
  """Estimates the mean of `values` - `baseline` over their common seeds.

  Runs of one seed share what the seed decides, so what it adds to both cancels
  and the interval is as narrow as the data allow.

  Args:
    values: by seed.
    baseline: by seed.

  Returns:
    The estimate, or None where no seed is common.
  """
  seeds = sorted(values.keys() & baseline.keys())
  if not seeds:
    return None
  return estimate([values[seed] - baseline[seed] for seed in seeds])
