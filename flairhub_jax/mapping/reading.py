"""Batches of windows, read by a thread ahead of the network."""

import dataclasses
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from flairhub_jax.mapping.bands import Band
from flairhub_jax.mapping.ensemble import MapReader
from flairhub_jax.mapping.examples import Window, stack
from flairhub_jax.mapping.layout import Layout
from flairhub_jax.mapping.stopwatch import Stopwatch

# Batches that the thread is ahead.
AHEAD = 2
_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Batch:
  """Windows of a batch in their places.

  Attributes:
    windows: None in places of padding.
    inputs: of all its places.
    rows: float32 [b h], weights of rows.
    columns: float32 [b w], weights of columns.
  """

  windows: tuple[Window | None, ...]
  inputs: dict[str, Any]
  rows: np.ndarray
  columns: np.ndarray


def batches(
  reader: MapReader,
  layout: Layout,
  *,
  batch_size: int,
  area: Callable[[int, int, int, int], Bool[np.ndarray, "h w"]] | None,
  bands: Sequence[Band],
  first: int,
  watch: Stopwatch,
) -> Generator[Batch, None, None]:
  """Yields the windows with data, in order.

  Args:
    reader: used by the thread alone.
    layout: of the map.
    batch_size: windows of a batch.
    area: see `engine.run`; windows outside are not read.
    bands: whose windows are read, consecutive.
    first: row of windows; batches with earlier ones only are left out, but
      are read, since the places of later windows depend on them.
    watch: gets the seconds of reading, and of waiting for it.
  """
  results: queue.Queue = queue.Queue(AHEAD)
  stop = threading.Event()

  def put(item) -> bool:
    while not stop.is_set():
      try:
        results.put(item, timeout=_SECONDS)
        return True
      except queue.Full:
        continue
    return False

  def work() -> None:
    try:
      batches = _read(reader, layout, batch_size, area, bands, first)
      while True:
        with watch.measure("reading"):
          batch = next(batches, None)
        if not put(batch) or batch is None:
          return
    except BaseException as error:
      put(error)

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  try:
    while True:
      with watch.measure("waiting"):
        item = results.get()
      if item is None:
        return
      if isinstance(item, BaseException):
        raise item
      yield item
  finally:
    stop.set()
    thread.join()


def _read(reader, layout, batch_size, area, bands, first) -> Iterator[Batch]:
  padding = reader.empty_example()
  for band in bands:
    windows: list[Window] = []
    for row in band.windows:
      for window in _read_row(reader, layout, area, row):
        windows.append(window)
        if len(windows) == batch_size:
          if row >= first:
            yield _make_batch(windows, layout, batch_size, padding)
          windows = []
    if windows and windows[-1].row >= first:
      yield _make_batch(windows, layout, batch_size, padding)


def _read_row(reader, layout, area, row) -> Iterator[Window]:
  """Yields the windows of a row that have data."""
  for column in range(len(layout.columns)):
    start = layout.rows.starts[row], layout.columns.starts[column]
    if area is not None and not area(*start, *layout.shape).any():
      continue
    window = reader.read(row, column)
    if window is not None:
      yield window


def _make_batch(windows, layout, batch_size, padding) -> Batch:
  empty = batch_size - len(windows)
  rows = np.zeros((batch_size, layout.shape[0]), np.float32)
  columns = np.zeros((batch_size, layout.shape[1]), np.float32)
  for place, window in enumerate(windows):
    rows[place] = layout.rows.weights[window.row]
    columns[place] = layout.columns.weights[window.column]
  return Batch(
    (*(dataclasses.replace(w, example={}) for w in windows), *[None] * empty),
    stack([*(window.example for window in windows), *[padding] * empty]),
    rows,
    columns,
  )
