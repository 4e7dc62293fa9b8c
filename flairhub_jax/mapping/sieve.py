"""Minimum mapping unit: small areas of one class become their neighbours'.

An area is a set of pixels of one class that share sides. Pixels of small areas
take the class that most of their neighbours with a class have (of equal numbers
the lower class), from the border of the area inwards. Each of them so belongs
to a remaining area, and no new small area arises. Small areas that only pixels
without data surround stay as they are.

The work goes by bands of rows with the result of the whole raster: areas are
joined over the borders of bands, and pixels are filled in rounds that see one
pixel further each. In memory are one band, and some 50 bytes for each area that
touches a border of bands.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import sparse
from scipy.sparse import csgraph

from flairhub_jax.errors import InputError
from flairhub_jax.schema import NO_LABEL, UNKNOWN_LABEL, LabelTask

# Pixels of a band: about 60 MB of memory.
_BAND_PIXELS = 2**20
# Rounds of filling in one pass over the file, and rows read around a band.
_ROUNDS = 32
# Rounding of sums of areas.
_ROUNDING = 1e-9
_WHERE = "--min-area"


def parse(
  words: Sequence[str], tasks: Mapping[str, LabelTask]
) -> dict[str, tuple[float, ...]]:
  """Smallest areas of classes, in square metres, by task.

  Args:
    words: `M2` for all classes, `CLASS=M2` for one.
    tasks: id -> classes.

  Raises:
    InputError: no number, or a name that no task has.
  """
  areas = {task: [0.0] * row.num_classes for task, row in tasks.items()}
  # Numbers for all classes first, whatever the order.
  for word in sorted(words, key=lambda word: "=" in word):
    name, _, number = word.rpartition("=")
    try:
      area = float(number)
    except ValueError:
      area = -1.0
    if not 0 <= area < float("inf"):
      raise InputError(_WHERE, "M2 or CLASS=M2, square metres", repr(word))
    places = [
      (task, index)
      for task, row in tasks.items()
      for index, class_name in enumerate(row.class_names)
      if name in ("", class_name)
    ]
    if not places:
      known = [n for row in tasks.values() for n in row.class_names]
      raise InputError(_WHERE, f"any of {', '.join(known)}", repr(name))
    for task, index in places:
      areas[task][index] = area
  return {task: tuple(values) for task, values in areas.items()}


class _Components(NamedTuple):
  """Areas of one class in a band.

  Attributes:
    lengths: pixels of each run of equal pixels in a row.
    of_run: number of its area.
    classes: of the areas.
    sizes: of the areas, in square metres.
    first: areas of the pixels of the first row.
    last: of the last row.
  """

  lengths: np.ndarray
  of_run: np.ndarray
  classes: np.ndarray
  sizes: np.ndarray
  first: np.ndarray
  last: np.ndarray

  @property
  def at_border(self) -> np.ndarray:
    """Numbers of the areas in the first or last row, ascending."""
    return np.union1d(self.first, self.last)


class Sieve:
  """The sieve of one raster."""

  def __init__(
    self,
    shape: tuple[int, int],
    row_areas: Float[np.ndarray, "h"],
    min_areas: Sequence[float],
    band_pixels: int = _BAND_PIXELS,
  ):
    """Prepares it.

    Args:
      shape: rows and columns.
      row_areas: area of a pixel in each row, in square metres.
      min_areas: of each class, in square metres.
      band_pixels: pixels in memory at once, about.
    """
    self._height, self._width = shape
    self._row_areas = row_areas
    self._min_areas = np.zeros(256)
    self._min_areas[: len(min_areas)] = min_areas
    self._rows = max(1, band_pixels // self._width)

  def run(self, source: pathlib.Path, target: pathlib.Path) -> None:
    """Writes `target` [h w] from `source` [h w], both raw uint8."""
    is_small = self._small_at_borders(source)
    num_left = self._remove(source, target, is_small)
    while num_left:
      before, num_left = num_left, self._fill(target)
      if num_left == before:
        self._restore(source, target)
        return

  def _bands(self):
    for first in range(0, self._height, self._rows):
      yield first, min(first + self._rows, self._height)

  def _read(self, file, first, last) -> UInt8[np.ndarray, "n w"]:
    file.seek(first * self._width)
    values = np.fromfile(file, np.uint8, (last - first) * self._width)
    return values.reshape(last - first, self._width)

  def _small_at_borders(self, source) -> list[Bool[np.ndarray, "n"]]:
    """Whether the areas at the borders of each band are small, by band."""
    sizes, classes, counts, pairs = [], [], [], []
    above: tuple[np.ndarray, np.ndarray] | None = None
    offset = 0
    with open(source, "rb") as file:
      for first, last in self._bands():
        values = self._read(file, first, last)
        parts = _components(values, self._row_areas[first:last])
        border = parts.at_border
        top = offset + np.searchsorted(border, parts.first)
        if above is not None:
          is_same = values[0] == above[0]
          joined = np.stack([above[1][is_same], top[is_same]])
          pairs.append(np.unique(joined, axis=1))
        above = values[-1], offset + np.searchsorted(border, parts.last)
        sizes.append(parts.sizes[border])
        classes.append(parts.classes[border])
        counts.append(len(border))
        offset += len(border)
    joined = np.concatenate([np.zeros((2, 0), int), *pairs], 1)
    whole = _join(joined[0], joined[1], offset)
    total = np.bincount(whole, weights=np.concatenate(sizes))[whole]
    is_small = self._is_small(total, np.concatenate(classes))
    return np.split(is_small, np.cumsum(counts)[:-1])

  def _is_small(self, sizes, classes) -> np.ndarray:
    return sizes < self._min_areas[classes] * (1 - _ROUNDING)

  def _remove(self, source, target, at_borders) -> int:
    """Marks pixels of small areas; returns their number."""
    num_removed = 0
    with open(source, "rb") as file, open(target, "wb") as out:
      for (first, last), small in zip(self._bands(), at_borders, strict=True):
        values = self._read(file, first, last)
        parts = _components(values, self._row_areas[first:last])
        is_small = self._is_small(parts.sizes, parts.classes)
        is_small[parts.at_border] = small
        removed = np.repeat(is_small[parts.of_run], parts.lengths)
        values.reshape(-1)[removed] = UNKNOWN_LABEL
        num_removed += int(removed.sum())
        out.write(values.data)
    return num_removed

  def _fill(self, target) -> int:
    """Fills marked pixels by some rounds; returns the number left."""
    num_left = 0
    above = np.zeros((0, self._width), np.uint8)
    with open(target, "r+b") as file:
      for first, last in self._bands():
        below = min(last + _ROUNDS, self._height)
        values = np.concatenate([above, self._read(file, first, below)])
        start = len(above)
        # Rows above the next band as they were before this pass.
        above = values[: start + last - first][-_ROUNDS:].copy()
        filled = _grow(values)[start : start + last - first]
        num_left += int((filled == UNKNOWN_LABEL).sum())
        file.seek(first * self._width)
        file.write(np.ascontiguousarray(filled).data)
    return num_left

  def _restore(self, source, target) -> None:
    """Gives marked pixels their class back."""
    with open(source, "rb") as file, open(target, "r+b") as out:
      for first, last in self._bands():
        values = self._read(out, first, last)
        before = self._read(file, first, last)
        values = np.where(values == UNKNOWN_LABEL, before, values)
        out.seek(first * self._width)
        out.write(values.data)


def _components(
  values: UInt8[np.ndarray, "h w"], row_areas: Float[np.ndarray, "h"]
) -> _Components:
  height, width = values.shape
  starts = np.ones((height, width), bool)
  starts[:, 1:] = values[:, 1:] != values[:, :-1]
  runs = np.cumsum(starts, dtype=np.int32).reshape(height, width) - 1
  # Runs that touch, each pair once: at the first pixel that they share.
  touches = values[1:] == values[:-1]
  touches[:, 1:] &= ~touches[:, :-1] | starts[1:, 1:] | starts[:-1, 1:]
  places = np.flatnonzero(starts)
  of_run = _join(runs[:-1][touches], runs[1:][touches], len(places))
  lengths = np.diff(places, append=height * width)
  classes = np.zeros(of_run.max() + 1, np.uint8)
  classes[of_run] = values.reshape(-1)[places]
  sizes = np.bincount(of_run, weights=lengths * row_areas[places // width])
  return _Components(
    lengths, of_run, classes, sizes, of_run[runs[0]], of_run[runs[-1]]
  )


def _join(first: np.ndarray, second: np.ndarray, number: int) -> np.ndarray:
  """Number of the group of each of so many things, from pairs of a group."""
  ones = np.ones(len(first), np.int8)
  graph = sparse.coo_array((ones, (first, second)), shape=(number, number))
  return csgraph.connected_components(graph, directed=False)[1]


def _grow(values: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
  """Fills marked pixels by `_ROUNDS` rounds."""
  padded = np.pad(values, 1, constant_values=NO_LABEL)
  flat, width = padded.reshape(-1), padded.shape[1]
  open_pixels = np.flatnonzero(flat == UNKNOWN_LABEL)
  for _ in range(_ROUNDS):
    if not len(open_pixels):
      break
    neighbours = [flat[open_pixels + step] for step in (-width, -1, 1, width)]
    best = np.zeros(len(open_pixels), np.uint16)
    for values in neighbours:
      # Most votes first, of equal numbers the lower class; 0: no class.
      rank = np.uint16(NO_LABEL) - values
      for others in neighbours:
        rank += np.uint16(256) * (values == others)
      np.maximum(best, rank * (values < UNKNOWN_LABEL), out=best)
    is_filled = best > 0
    flat[open_pixels[is_filled]] = NO_LABEL - (best[is_filled] & 255)
    open_pixels = open_pixels[~is_filled]
  return padded[1:-1, 1:-1]
