"""What a run tells: JSON lines, TensorBoard events, a text log."""

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
  """Tells how long a run waits for data, compiles, computes, and so on."""

  PARTS = ("data", "place", "compile", "evaluate", "save")

  def __init__(self):
    """Starts it."""
    self._seconds: dict[str, float] = {}
    self._start = time.monotonic()

  @contextlib.contextmanager
  def of(self, what: str) -> Iterator[None]:
    """Counts the time within as that of `what`."""
    start = time.monotonic()
    try:
      yield
    finally:
      spent = time.monotonic() - start
      self._seconds[what] = self._seconds.get(what, 0.0) + spent

  def read(self, num_patches: int) -> dict[str, float]:
    """Seconds since the last reading by what they went into, and the rate.

    The rest is `compute`: the host waits for the device only where it logs.

    Args:
      num_patches: those trained on since then.
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
  """Traces a few steps for the profiler, after those that compile."""

  AFTER, STEPS = 5, 5

  def __init__(self, folder: pathlib.Path | None, start_step: int):
    """Traces nothing without a folder."""
    self._folder = folder
    self._first = start_step + self.AFTER + 1
    self._is_running = False

  def before(self, step: int) -> None:
    """Starts or ends the trace where it is time."""
    if self._folder is None:
      return
    if step == self._first:
      jax.profiler.start_trace(self._folder)
      self._is_running = True
    elif step == self._first + self.STEPS:
      self.close()

  def close(self) -> None:
    """Writes what was traced."""
    if self._is_running:
      self._is_running = False
      jax.profiler.stop_trace()


class Tracker:
  """Writes the records of a run; a continued run repeats none.

  Of several processes the first one writes.
  """

  def __init__(self, run: run_directory.RunDirectory, start_step: int):
    """Opens the files, dropping what lies after `start_step`.

    A killed run may have told more than it saved; those steps come again.
    """
    records = run_directory.read_records(run.metrics)
    kept = [r for r in records if r.get("step", 0) <= start_step]
    # Records of all validations so far.
    self.validations = [r for r in kept if r["kind"] == "valid"]
    is_first = processes.is_first()
    if is_first:
      text = "".join(json.dumps(r) + "\n" for r in kept)
      atomic.write_text(run.metrics, text)
    self._lines = open(
      run.metrics if is_first else os.devnull, "a", encoding="utf-8"
    )
    self._events = tensorboardX.SummaryWriter(
      str(run.tensorboard), purge_step=start_step + 1, write_to_disk=is_first
    )
    self._log = open(run.log if is_first else os.devnull, "a", encoding="utf-8")

  def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
    """Records named numbers after `step` updates.

    Args:
      kind: `train` or `valid`.
      step: updates applied.
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
    """Tells the log and the terminal."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    self._log.write(f"{now} {line}\n")
    self._log.flush()
    if processes.is_first():
      terminal.print_line(line)

  def write_picture(self, name: str, step: int, path: pathlib.Path) -> None:
    """Shows a picture among the TensorBoard images."""
    if processes.is_first():
      with PIL.Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
      self._events.add_image(name, pixels, step, dataformats="HWC")

  def close(self) -> None:
    """Flushes and closes all files."""
    self._lines.close()
    self._events.close()
    self._log.close()
