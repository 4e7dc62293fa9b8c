"""Pool of worker processes with progress and cancellation."""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from flairhub_jax import terminal

# State of this worker process, set when it starts.
_num_done = None
_stop = None


class _Stopped(Exception):
  """The pool was stopped while this job was running."""


def run_jobs(
  work: Callable[[Any, Callable[[int], None]], Any],
  jobs: Iterator[Any],
  num_workers: int,
  on_progress: Callable[[int], None],
) -> Iterator[tuple[Any, Any]]:
  """Yields each job with its result upon completion, in any order.

  Args:
    work: picklable function of a job and a callback. It calls the callback
      with the number of finished patches; an exception in it ends the job.
    jobs: consumed only when a worker is free, since they may be large.
    num_workers: number of processes; 0 uses the current process.
    on_progress: called with the number of patches finished since the last call.
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
    # Read once: workers keep incrementing it.
    total = num_done.value
    on_progress(total - reported)
    reported = total
    for future in done:
      yield pending.pop(future), future.result()


def _start_worker(num_done, stop) -> None:
  global _num_done, _stop
  _num_done, _stop = num_done, stop
  # Ctrl-C reaches every process of the terminal; only the parent handles it.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  terminal.silence_libraries()
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """Ends this process when the parent is killed, instead of waiting forever."""
  multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
  os._exit(1)


def _work(work, job):
  return work(job, _add_done)


def _add_done(number: int) -> None:
  if _stop.is_set():
    raise _Stopped
  with _num_done.get_lock():
    _num_done.value += number
