"""Maps a region: windows of the network, blended and finished row by row.

Only the sums of one row of windows are in memory: a row of the map is finished
once no later window covers it. One thread reads ahead of the network.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from flairhub_jax.mapping import bands, reading
from flairhub_jax.mapping.bands import Band
from flairhub_jax.mapping.ensemble import MapNetwork, MapReader
from flairhub_jax.mapping.layers import Layers
from flairhub_jax.mapping.layout import Layout
from flairhub_jax.mapping.stopwatch import Stopwatch
from flairhub_jax.mapping.store import Counts, total

# Rows that become layers at once.
_ROWS_AT_ONCE = 64

Area = Callable[[int, int, int, int], Bool[np.ndarray, "h w"]]
Write = Callable[[int, Mapping[str, np.ndarray]], None]
Finish = Callable[[int, Counts], None]


def memory(
  layout: Layout, num_classes: int, batch_bytes: int, network_bytes: int
) -> int:
  """Bytes that a map needs at most, whatever its number of rows.

  Args:
    layout: of the map.
    num_classes: of all tasks.
    batch_bytes: of a batch of inputs.
    network_bytes: of the compiled program.
  """
  sums = min(layout.shape[0], layout.rows.size) * layout.columns.size
  batches = batch_bytes * (reading.AHEAD + 3)
  return sums * (4 * num_classes + 1) + batches + network_bytes


def run(
  network: MapNetwork,
  reader: MapReader,
  layout: Layout,
  layers: Layers,
  tasks: Mapping[str, int],
  *,
  write: Write,
  finish: Finish = lambda *_: None,
  area: Area | None = None,
  division: Sequence[Band] | None = None,
  numbers: range | None = None,
  on_windows: Callable[[int], None] = lambda _: None,
  watch: Stopwatch | None = None,
) -> Counts:
  """Computes a map, or some consecutive bands of it.

  Args:
    network: compiled for its windows.
    reader: of the windows.
    layout: of the map.
    layers: to write of each task.
    tasks: task -> number of classes.
    write: called with the index of the first finished row, and with the layers
      of the finished rows.
    finish: called with the number of a band and its counts, once its rows are
      written.
    area: mask of the pixels to map, by first row, first column, height and
      width; None: all.
    division: all bands of the map; None: `bands.divide`.
    numbers: of the bands to compute; None: all.
    on_windows: called with the number of windows since the last call.
    watch: gets the seconds of all stages.

  Returns:
    The counts of these bands.
  """
  watch = watch or Stopwatch()
  if division is None:
    division = bands.divide(layout, network.batch_size)
  own = division if numbers is None else division[numbers.start : numbers.stop]
  first = _first_needed(layout, own[0])
  sums = _Sums(layout, layers, tasks, area, own, first)
  sums.write, sums.finish_band, sums.watch = write, finish, watch
  needed = [
    band for band in division[: own[-1].number + 1] if band.windows.stop > first
  ]
  batches = reading.batches(
    reader,
    layout,
    batch_size=network.batch_size,
    area=area,
    bands=needed,
    first=first,
    watch=watch,
  )
  with contextlib.closing(batches):
    for number in _blend(network, batches, sums):
      on_windows(number)
  return total(sums.counts)


def _blend(
  network: MapNetwork, batches: Iterator[reading.Batch], sums: "_Sums"
) -> Iterator[int]:
  """Adds a batch while the next one is computed; yields numbers of windows."""
  previous: tuple[reading.Batch, Any] | None = None
  for batch in batches:
    with sums.watch.measure("computing"):
      results = network(batch.inputs, batch.rows, batch.columns)
    if previous is not None:
      yield sums.add(*previous)
    previous = batch, results
  if previous is not None:
    yield sums.add(*previous)
  yield sums.finish()


def _first_needed(layout: Layout, band: Band) -> int:
  """The first row of windows that reaches into the rows of a band."""
  starts, size = layout.rows.starts, layout.rows.window
  rows = (n for n, s in enumerate(starts) if s + size > band.rows.start)
  return min(next(rows), band.windows.start)


class _Sums:
  """Weighted probabilities of the rows that are not finished."""

  write: Write
  finish_band: Finish
  watch: Stopwatch

  def __init__(self, layout, layers, tasks, area, own, first):
    self.counts: list[Counts] = []  # of finished bands
    self._layout, self._layers, self._area = layout, layers, area
    self._bands = own
    self._row = first  # of windows
    self._top = max(0, layout.rows.starts[first])  # row of the first sum
    self._next = own[0].rows.start  # first row that is not written
    self._num_absent: dict[str, int] = {}  # of the band
    self._num_windows = 0
    self._reported = own[0].windows.start * len(layout.columns)
    height = min(layout.rows.window, layout.rows.size)
    width = layout.columns.size
    self._sums = {
      task: np.zeros((height, width, number), np.float32)
      for task, number in tasks.items()
    }
    self._has_data = np.zeros((height, width), bool)

  def add(self, batch: reading.Batch, results: Mapping[str, Any]) -> int:
    """Adds the windows of a batch; returns the number of windows done."""
    with self.watch.measure("computing"):
      arrays = {task: np.asarray(values) for task, values in results.items()}
    done = self._reported
    for place, window in enumerate(batch.windows):
      if window is None or window.row < self._row:
        continue  # padding, or only there for the places of others
      while self._row < window.row:
        self._next_row()
      with self.watch.measure("blending"):
        self._add_window(
          window, {task: values[place] for task, values in arrays.items()}
        )
      # Windows of earlier bands are in the counts of those.
      if window.row >= self._bands[0].windows.start:
        self._num_windows += 1
        for name in window.absent_sensors:
          self._num_absent[name] = self._num_absent.get(name, 0) + 1
        done = window.row * len(self._layout.columns) + window.column + 1
    number, self._reported = done - self._reported, done
    return number

  def finish(self) -> int:
    """Finishes the last rows; returns the number of windows done."""
    stop = self._bands[-1].windows.stop
    while self._row < stop:
      self._next_row()
    return stop * len(self._layout.columns) - self._reported

  def _add_window(self, window, values):
    layout = self._layout
    row = layout.rows.starts[window.row]
    col = layout.columns.starts[window.column]
    # The part within the map.
    top, left = max(row, 0), max(col, 0)
    bottom = min(row + layout.shape[0], layout.rows.size)
    right = min(col + layout.shape[1], layout.columns.size)
    target = np.s_[top - self._top : bottom - self._top, left:right]
    source = np.s_[top - row : bottom - row, left - col : right - col]
    for task, sums in self._sums.items():
      sums[target] += values[task][source]
    self._has_data[target] |= window.has_data[source]

  def _next_row(self):
    """Finishes the rows of the map that no later window covers."""
    rows, number = self._layout.rows, self._row + 1
    end = rows.first_pixel(number)
    for first in range(self._next, end, _ROWS_AT_ONCE):
      self._finish(first, min(first + _ROWS_AT_ONCE, end))
    self._next, self._row = max(self._next, end), number
    band = self._bands[len(self.counts)]
    if number == band.windows.stop:
      counts = Counts(self._num_absent, self._num_windows)
      with self.watch.measure("writing"):
        self.finish_band(band.number, counts)
      self.counts.append(counts)
      self._num_absent, self._num_windows = {}, 0
    if number < len(rows):
      with self.watch.measure("blending"):
        self._move_to(max(0, rows.starts[number]))

  def _finish(self, first, last):
    rows = np.s_[first - self._top : last - self._top]
    has_data = self._has_data[rows]
    if self._area is not None:
      width = self._layout.columns.size
      has_data = has_data & self._area(first, 0, last - first, width)
    layers: dict[str, np.ndarray] = {}
    with self.watch.measure("blending"):
      for task, sums in self._sums.items():
        layers |= self._layers.of_rows(task, sums[rows], has_data)
    with self.watch.measure("writing"):
      self.write(first, layers)

  def _move_to(self, top):
    """Drops the sums of the rows above one, and moves the others up."""
    by = top - self._top
    for values in (*self._sums.values(), self._has_data):
      num_rows = max(0, len(values) - by)
      for i in range(num_rows):
        values[i] = values[i + by]
      values[num_rows:] = 0
    self._top = top
