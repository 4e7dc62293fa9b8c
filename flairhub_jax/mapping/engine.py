"""Maps a region: windows of the network, blended and finished row by row.

Only the sums of one row of windows are in memory: a row of the map is finished
once no later window covers it. One thread reads ahead of the network.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from flairhub_jax.mapping import reading
from flairhub_jax.mapping.examples import Reader
from flairhub_jax.mapping.layers import Layers
from flairhub_jax.mapping.layout import Layout
from flairhub_jax.mapping.network import WindowNetwork
from flairhub_jax.mapping.store import Progress

# Rows that become layers at once.
_ROWS_AT_ONCE = 64

Area = Callable[[int, int, int, int], Bool[np.ndarray, "h w"]]
Write = Callable[[int, Mapping[str, np.ndarray]], None]
Save = Callable[[Progress], None]


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
  network: WindowNetwork,
  reader: Reader,
  layout: Layout,
  layers: Layers,
  tasks: Mapping[str, int],
  *,
  write: Write,
  save: Save = lambda _: None,
  area: Area | None = None,
  progress: Progress | None = None,
  on_windows: Callable[[int], None] = lambda _: None,
) -> Progress:
  """Computes a map, or its remaining rows.

  Args:
    network: compiled for its windows.
    reader: of the windows.
    layout: of the map.
    layers: to write of each task.
    tasks: task -> number of classes.
    write: called with the index of the first finished row, and with the layers
      of the finished rows.
    save: called with the progress, once its rows are written.
    area: mask of the pixels to map, by first row, first column, height and
      width; None: all.
    progress: of an earlier run.
    on_windows: called with the number of windows since the last call.

  Returns:
    The progress at the end.
  """
  progress = progress or Progress()
  if progress.rows >= layout.rows.size:
    return progress
  first = _first_needed(layout, progress)
  sums = _Sums(layout, layers, tasks, area, progress, first)
  sums.write, sums.save = write, save
  previous: tuple[reading.Batch, Any] | None = None
  batches = reading.batches(
    reader,
    layout,
    batch_size=network.batch_size,
    area=area,
    places=progress.places[: first + 1],
  )
  with contextlib.closing(batches):
    for batch in batches:
      results = network(batch.inputs, batch.rows, batch.columns)
      if previous is not None:
        on_windows(sums.add(*previous))
      previous = batch, results
  if previous is not None:
    on_windows(sums.add(*previous))
  on_windows(sums.finish())
  return sums.progress


def _first_needed(layout: Layout, progress: Progress) -> int:
  """The first row of windows that an unfinished row of the map needs."""
  starts, size = layout.rows.starts, layout.rows.window
  rows = (n for n, start in enumerate(starts) if start + size > progress.rows)
  return min(next(rows), len(progress.places) - 1)


class _Sums:
  """Weighted probabilities of the rows that are not finished."""

  write: Write
  save: Save

  def __init__(self, layout, layers, tasks, area, progress, first):
    self.progress = progress
    self._layout, self._layers, self._area = layout, layers, area
    self._row = first  # of windows
    self._top = max(0, layout.rows.starts[first])  # row of the first sum
    # Windows of earlier rows are in the counts already: only sums are added.
    self._first_new_row = progress.window_rows
    self._num_absent = dict(progress.num_absent)
    self._num_windows = progress.num_windows
    self._places = progress.places
    self._num_reported = progress.window_rows * len(layout.columns)
    height = min(layout.rows.window, layout.rows.size)
    width = layout.columns.size
    self._sums = {
      task: np.zeros((height, width, number), np.float32)
      for task, number in tasks.items()
    }
    self._has_data = np.zeros((height, width), bool)

  def add(self, batch: reading.Batch, results: Mapping[str, Any]) -> int:
    """Adds the windows of a batch; returns the number of windows added."""
    arrays = {task: np.asarray(values) for task, values in results.items()}
    self._places = batch.places
    num_done = self._num_reported
    for place, window in enumerate(batch.windows):
      if window is None:
        continue
      while self._row < window.row:
        self._next_row()
      self._add_window(
        window, {task: values[place] for task, values in arrays.items()}
      )
      if window.row >= self._first_new_row:
        self._num_windows += 1
        for name in window.absent_sensors:
          self._num_absent[name] = self._num_absent.get(name, 0) + 1
        num_done = window.row * len(self._layout.columns) + window.column + 1
    number, self._num_reported = num_done - self._num_reported, num_done
    return number

  def finish(self) -> int:
    """Finishes the last rows; returns the number of windows added."""
    while self._row < len(self._layout.rows):
      self._next_row()
    num_done = len(self._layout.rows) * len(self._layout.columns)
    return num_done - self._num_reported

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
    begin = max(self._top, self.progress.rows)
    for first in range(begin, end, _ROWS_AT_ONCE):
      self._finish(first, min(first + _ROWS_AT_ONCE, end))
    self._row = number
    if number < len(rows):
      self._move_to(max(0, rows.starts[number]))
    if end > self.progress.rows:
      self.progress = Progress(
        end, number, self._places, self._num_absent, self._num_windows
      )
      self.save(self.progress)

  def _finish(self, first, last):
    rows = np.s_[first - self._top : last - self._top]
    has_data = self._has_data[rows]
    if self._area is not None:
      width = self._layout.columns.size
      has_data = has_data & self._area(first, 0, last - first, width)
    layers: dict[str, np.ndarray] = {}
    for task, sums in self._sums.items():
      layers |= self._layers.of_rows(task, sums[rows], has_data)
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
