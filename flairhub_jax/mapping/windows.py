"""Windows along one axis of a map, and the weights by which they are blended.

Windows and weights of a map are products of those of its rows and columns. The
weights of all windows at a pixel sum to 1.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from flairhub_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Axis:
  """Windows along rows or columns, in order.

  Attributes:
    size: pixels of the map.
    window: pixels of a window.
    starts: first pixel of each window; a window may reach beyond the map.
    weights: of the pixels of each window, 0 outside the map.
  """

  size: int
  window: int
  starts: tuple[int, ...]
  weights: tuple[Float[np.ndarray, "window"], ...]

  def __len__(self) -> int:
    """Number of windows."""
    return len(self.starts)

  def first_pixel(self, number: int) -> int:
    """The first pixel that a window, or one after it, contributes to."""
    if number >= len(self):
      return self.size
    firsts = [
      start + int(np.flatnonzero(weights)[0])
      for start, weights in zip(
        self.starts[number:], self.weights[number:], strict=True
      )
    ]
    return min(firsts)


def blended(size: int, window: int, overlap: int) -> Axis:
  """Windows that overlap, with raised cosines over the overlap.

  The last window is moved inwards, so that no window reaches beyond a map that
  is larger than it. A weight is never 0 inside the map.

  Raises:
    InputError: an overlap that leaves no step.
  """
  if not 0 <= overlap < window:
    raise InputError(
      "--overlap", f"0-{window - 1} for windows of {window} pixels", overlap
    )
  step = window - overlap
  starts = list(range(0, max(size - window, 0) + 1, step))
  if starts[-1] + window < size:
    starts.append(size - window)
  profile = np.ones(window)
  ramp = min(overlap, window // 2)
  if ramp:
    rise = np.sin(np.pi * (np.arange(ramp) + 0.5) / (2 * ramp)) ** 2
    profile[:ramp], profile[-ramp:] = rise, rise[::-1]
  return _axis(size, window, starts, [profile] * len(starts))


def cropped(
  size: int, window: int, margin: int, *, is_reversed: bool = False
) -> Axis:
  """Windows of which only the centre is used, as in the reference.

  The last window is moved inwards, and later windows replace earlier ones.

  Args:
    size: pixels of the map.
    window: pixels of a window.
    margin: pixels left out on each side of a window.
    is_reversed: whether to start at the end: the reference starts at the
      southern border.

  Raises:
    InputError: a margin that leaves no centre.
  """
  centre = window - 2 * margin
  if margin < 0 or centre < 1:
    raise InputError(
      "--margin", f"0-{(window - 1) // 2} for windows of {window}", margin
    )
  firsts = list(range(0, max(size - centre, 0) + 1, centre))
  if firsts[-1] + centre < size:
    firsts.append(size - centre)
  ends = [*firsts[1:], min(firsts[-1] + centre, size)]
  starts, profiles = [], []
  for first, end in zip(firsts, ends, strict=True):
    profile = np.zeros(window)
    profile[margin : margin + end - first] = 1
    start = first - margin
    if is_reversed:
      start, profile = size - start - window, profile[::-1]
    starts.append(start)
    profiles.append(profile)
  if is_reversed:
    starts, profiles = starts[::-1], profiles[::-1]
  return _axis(size, window, starts, profiles)


def _axis(
  size: int, window: int, starts: Sequence[int], profiles: Sequence[np.ndarray]
) -> Axis:
  """Divides the weights by their sum at each pixel of the map."""
  total = np.zeros(size)
  parts = []
  for start, profile in zip(starts, profiles, strict=True):
    places = np.arange(start, start + window)
    is_inside = (places >= 0) & (places < size)
    parts.append((places[is_inside], is_inside))
    total[places[is_inside]] += profile[is_inside]
  weights = []
  for (places, is_inside), profile in zip(parts, profiles, strict=True):
    shares = np.zeros(window)
    shares[is_inside] = profile[is_inside] / total[places]
    weights.append(shares.astype(np.float32))
  return Axis(size, window, tuple(starts), tuple(weights))
