"""Batches of windows, read by a thread ahead of the network."""

import dataclasses
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool

from flairhub_jax.mapping.ensemble import MapReader
from flairhub_jax.mapping.examples import Window, stack
from flairhub_jax.mapping.layout import Layout

# Batches that the thread is ahead.
AHEAD = 2
_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Batch:
  """Windows of a batch in their places.

  A place depends on the windows with data before it only: a resumed run
  computes the same batches.

  Attributes:
    windows: None in places of padding.
    inputs: of all its places.
    rows: float32 [b h], weights of rows.
    columns: float32 [b w], weights of columns.
    places: see `store.Progress`.
  """

  windows: tuple[Window | None, ...]
  inputs: dict[str, Any]
  rows: np.ndarray
  columns: np.ndarray
  places: tuple[int, ...]


def batches(
  reader: MapReader,
  layout: Layout,
  *,
  batch_size: int,
  area: Callable[[int, int, int, int], Bool[np.ndarray, "h w"]] | None,
  places: tuple[int, ...],
) -> Generator[Batch, None, None]:
  """Yields the windows with data, in order.

  Args:
    reader: used by the thread alone.
    layout: of the map.
    batch_size: windows of a batch.
    area: see `engine.run`; windows outside are not read.
    places: of earlier rows of windows, and of the first one to read.
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
      for batch in _read(reader, layout, batch_size, area, places):
        if not put(batch):
          return
      put(None)
    except BaseException as error:
      put(error)

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  try:
    while (item := results.get()) is not None:
      if isinstance(item, BaseException):
        raise item
      yield item
  finally:
    stop.set()
    thread.join()


def _read(reader, layout, batch_size, area, places) -> Iterator[Batch]:
  row_places, place = list(places[:-1]), places[-1]
  padding = reader.empty_example()
  windows: list[Window | None] = [None] * (place % batch_size)
  for row in range(len(places) - 1, len(layout.rows)):
    row_places.append(place)
    for column in range(len(layout.columns)):
      start = layout.rows.starts[row], layout.columns.starts[column]
      if area is not None and not area(*start, *layout.shape).any():
        continue
      window = reader.read(row, column)
      if window is None:
        continue
      windows.append(window)
      place += 1
      if len(windows) == batch_size:
        yield _make_batch(windows, layout, batch_size, padding, row_places)
        windows = []
  if any(window is not None for window in windows):
    yield _make_batch(windows, layout, batch_size, padding, row_places)


def _make_batch(windows, layout, batch_size, padding, row_places) -> Batch:
  windows = windows + [None] * (batch_size - len(windows))
  rows = np.zeros((batch_size, layout.shape[0]), np.float32)
  columns = np.zeros((batch_size, layout.shape[1]), np.float32)
  for place, window in enumerate(windows):
    if window is not None:
      rows[place] = layout.rows.weights[window.row]
      columns[place] = layout.columns.weights[window.column]
  examples = [padding if w is None else w.example for w in windows]
  return Batch(
    tuple(w and dataclasses.replace(w, example={}) for w in windows),
    stack(examples),
    rows,
    columns,
    tuple(row_places),
  )
