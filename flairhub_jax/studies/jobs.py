"""Jobs on this machine: concurrent `flairhub` subprocesses."""

import concurrent.futures
import contextlib
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from flairhub_jax import faults


class Slot:
  """A set of cores, on which one process runs at a time."""

  def __init__(self, number: int, cores: Sequence[int] | None):
    """Starts no process.

    Args:
      number: 0 to the number of slots - 1.
      cores: of its processes; None: all.
    """
    self.number, self._cores = number, cores
    self._process: subprocess.Popen[bytes] = None
    self._lock = threading.Lock()
    self.is_stopped = False

  def run(
    self,
    argv: Sequence[str],
    folder: pathlib.Path,
    environment: Mapping[str, str],
  ) -> str:
    """Runs `flairhub` and waits for its end.

    Args:
      argv: command and flags.
      folder: of `stdout.txt` and `stderr.txt`, to which its output is appended.
      environment: its variables.

    Returns:
      An error line, "" on success.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
      open(folder / "stdout.txt", "ab") as stdout,
      open(folder / "stderr.txt", "ab+") as stderr,
    ):
      start = stderr.tell()
      with self._lock:
        if self.is_stopped:
          return "stopped"
        if self._cores:
          # The subprocess inherits the affinity of this thread. XLA, OpenMP and
          # the reader workers start one thread per core, and the number of
          # threads changes the rounding of sums.
          os.sched_setaffinity(0, self._cores)
        self._process = subprocess.Popen(
          [sys.executable, "-m", "flairhub_jax", *argv],
          stdin=subprocess.DEVNULL,
          stdout=stdout,
          stderr=stderr,
          env={**environment, faults.PARENT: str(os.getpid())},
          # Ctrl-C in a terminal reaches only the sweep, which sends SIGTERM.
          process_group=0,
        )
      code = self._process.wait()
      if code < 0:
        return "killed, or out of memory"
      stderr.seek(start)
      return _last_line(stderr.read(), argv[0]) if code else ""

  def stop(self) -> None:
    """Sends SIGTERM, on which the process saves; starts no further process."""
    with self._lock:
      self.is_stopped = True
      if self._process:
        self._process.terminate()

  def kill(self) -> None:
    """Kills the process and its children."""
    if self._process and self._process.poll() is None:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(self._process.pid, signal.SIGKILL)


def _last_line(stderr: bytes, command: str) -> str:
  text = stderr.decode(errors="replace").replace("\r", "\n")
  lines = text.strip().splitlines() or ["no error message"]
  return lines[-1].removeprefix(f"flairhub {command}: ")


def run_local(
  names: Sequence[str],
  job: Callable[[str, Slot], str],
  *,
  max_concurrent: int,
  started: Callable[[str], None],
  ended: Callable[[str, str], None],
) -> None:
  """Runs the jobs; on an interrupt the running ones save and end.

  Args:
    names: of the jobs, in order.
    job: runs the named job with `Slot.run`, in a thread; returns an error line,
      "" on success.
    max_concurrent: number of concurrent jobs, each on its own cores.
    started: called with the name.
    ended: called with the name and the error line.
  """
  slots, free = _build_slots(max_concurrent), queue.SimpleQueue()
  for slot in slots:
    free.put(slot)
  printing = threading.Lock()

  def run(name: str) -> None:
    slot = free.get()
    try:
      with printing:
        started(name)
      fault = job(name, slot)
      if not slot.is_stopped:
        with printing:
          ended(name, fault)
    finally:
      free.put(slot)

  with concurrent.futures.ThreadPoolExecutor(max_concurrent) as pool:
    futures = [pool.submit(run, name) for name in names]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
    finally:
      pool.shutdown(wait=False, cancel_futures=True)
      for slot in slots:
        slot.stop()
      try:
        running = [future for future in futures if not future.cancelled()]
        concurrent.futures.wait(running, timeout=faults.GRACE)
      finally:  # after the grace period, or at a second interrupt
        for slot in slots:
          slot.kill()


def _build_slots(count: int) -> list[Slot]:
  if count == 1 or not hasattr(os, "sched_getaffinity"):
    return [Slot(number, None) for number in range(count)]
  cores = sorted(os.sched_getaffinity(0))
  return [
    Slot(number, slot_cores(cores, number, count)) for number in range(count)
  ]


def slot_cores(
  cores: Sequence[int], slot: int, max_concurrent: int
) -> tuple[int, ...]:
  """Returns the cores of a slot: an equal part, at least one core."""
  count = max(1, len(cores) // max_concurrent)
  start = slot * count % len(cores)
  return tuple(cores[start : start + count])
