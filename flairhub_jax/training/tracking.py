"""Records of a run: JSON lines, TensorBoard events and a text log."""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import PIL.Image
import tensorboardX

from flairhub_jax import atomic, processes, run_directory, terminal


class Stopwatch:
  """Measures the wall-clock time of loading, compiling, computing and so on."""

  PARTS = ("data", "place", "compile", "evaluate", "save")

  def __init__(self):
    """Starts measuring."""
    self._seconds: dict[str, float] = {}
    self._start = time.monotonic()

  @contextlib.contextmanager
  def of(self, what: str) -> Iterator[None]:
    """Adds the time inside the block to `what`."""
    start = time.monotonic()
    try:
      yield
    finally:
      seconds = time.monotonic() - start
      self._seconds[what] = self._seconds.get(what, 0.0) + seconds

  def read(self, num_patches: int) -> dict[str, float]:
    """Returns the seconds by activity since the last call, and patches/s.

    The remainder is `compute`, as the host waits for the device only to log.

    Args:
      num_patches: number of patches since the last call.
    """
    now = time.monotonic()
    seconds = {name: self._seconds.get(name, 0.0) for name in self.PARTS}
    seconds["compute"] = now - self._start - sum(seconds.values())
    self._seconds, self._start = {}, now
    stepping = sum(seconds[part] for part in ("data", "place", "compute"))
    return {
      "patches_per_second": num_patches / stepping,
      **{f"seconds/{name}": value for name, value in seconds.items()},
    }


class Trace:
  """Profiles a few steps, after compilation."""

  AFTER, STEPS = 5, 5

  def __init__(self, folder: pathlib.Path | None, start_step: int):
    """Disables profiling if `folder` is None."""
    self._folder = folder
    self._first = start_step + self.AFTER + 1
    self._is_running = False

  def before(self, step: int) -> None:
    """Starts the trace before its first step, ends it after its last."""
    if self._folder is None:
      return
    if step == self._first:
      jax.profiler.start_trace(self._folder)
      self._is_running = True
    elif step == self._first + self.STEPS:
      self.close()

  def close(self) -> None:
    """Writes the trace."""
    if self._is_running:
      self._is_running = False
      jax.profiler.stop_trace()


class Tracker:
  """Writes the records of a run, without duplicates if it is continued.

  Only the first process writes.
  """

  def __init__(self, run: run_directory.RunDirectory, start_step: int):
    """Opens the files and removes records after `start_step`.

    A killed run may have recorded steps after its last checkpoint, which are
    repeated.
    """
    records = [
      record
      for record in run_directory.read_records(run.metrics)
      if record.get("step", 0) <= start_step
    ]
    # Records of all validations so far.
    self.validations = [r for r in records if r["kind"] == "valid"]
    is_first = processes.is_first()
    if is_first:
      text = "".join(json.dumps(r) + "\n" for r in records)
      atomic.write_text(run.metrics, text)
    self._lines = open(
      run.metrics if is_first else os.devnull, "a", encoding="utf-8"
    )
    self._events = tensorboardX.SummaryWriter(
      str(run.tensorboard), purge_step=start_step + 1, write_to_disk=is_first
    )
    self._log = open(run.log if is_first else os.devnull, "a", encoding="utf-8")

  def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
    """Records values after `step` updates.

    Args:
      kind: `train` or `valid`.
      step: number of updates applied.
      values: numbers by name.
    """
    record = {"kind": kind, "step": step, **values}
    self._lines.write(json.dumps(record) + "\n")
    self._lines.flush()
    if kind == "valid":
      self.validations.append(record)
    for name, value in values.items():
      if isinstance(value, (int, float)) and math.isfinite(value):
        self._events.add_scalar(f"{kind}/{name}", value, step)

  def log(self, line: str) -> None:
    """Writes a line to the log and the terminal."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    self._log.write(f"{now} {line}\n")
    self._log.flush()
    if processes.is_first():
      terminal.print_line(line)

  def write_image(self, name: str, step: int, path: pathlib.Path) -> None:
    """Adds an image file to the TensorBoard images."""
    if processes.is_first():
      with PIL.Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
      self._events.add_image(name, pixels, step, dataformats="HWC")

  def close(self) -> None:
    """Flushes and closes all files."""
    self._lines.close()
    self._events.close()
    self._log.close()
