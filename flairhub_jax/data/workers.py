"""Processes that work through jobs, with progress and a way to stop."""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from flairhub_jax import terminal

# Of this worker process; set when it starts.
_num_done = None
_stop = None


class _Stopped(Exception):
  """All work was given up while this job was under way."""


def run_jobs(
  work: Callable[[Any, Callable[[int], None]], Any],
  jobs: Iterator[Any],
  num_workers: int,
  on_progress: Callable[[int], None],
) -> Iterator[tuple[Any, Any]]:
  """Yields each job and its result when it is done, in any order.

  Args:
    work: a function that can be pickled. It takes a job and a function, which
      it calls with numbers of patches done and whose exceptions end it.
    jobs: drawn only when a worker is free, since they may be large.
    num_workers: processes; 0 works in this one.
    on_progress: called with the number of patches done since the last call.
  """
  if num_workers == 0:
    for job in jobs:
      yield job, work(job, on_progress)
    return
  # A forked process would share GDAL's locks and open files with this one.
  context = multiprocessing.get_context("spawn")
  num_done, stop = context.Value("q", 0), context.Event()
  with concurrent.futures.ProcessPoolExecutor(
    num_workers, context, _start_worker, (num_done, stop)
  ) as executor:
    try:
      yield from _run_in(
        executor, work, jobs, num_workers, num_done, on_progress
      )
    finally:
      stop.set()
      executor.shutdown(cancel_futures=True)


def _run_in(executor, work, jobs, num_workers, num_done, on_progress):
  pending = {}
  reported = 0
  while True:
    while (
      len(pending) < num_workers + 1 and (job := next(jobs, None)) is not None
    ):
      pending[executor.submit(_work, work, job)] = job
    if not pending:
      return
    done, _ = concurrent.futures.wait(
      pending, 0.2, concurrent.futures.FIRST_COMPLETED
    )
    # Read once: the workers go on counting.
    total = num_done.value
    on_progress(total - reported)
    reported = total
    for future in done:
      yield pending.pop(future), future.result()


def _start_worker(num_done, stop) -> None:
  global _num_done, _stop
  _num_done, _stop = num_done, stop
  # Ctrl-C reaches every process of the terminal; the parent decides.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  terminal.silence_libraries()
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """Ends this process when the parent is killed; it would wait for ever."""
  multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
  os._exit(1)


def _work(work, job):
  return work(job, _add_done)


def _add_done(number: int) -> None:
  if _stop.is_set():
    raise _Stopped
  with _num_done.get_lock():
    _num_done.value += number
