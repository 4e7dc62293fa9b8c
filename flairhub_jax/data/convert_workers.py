"""Processes that write shards, and what they tell the one that waits."""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator

from flairhub_jax import terminal
from flairhub_jax.data import convert_shard

# Of this worker process; set when it starts.
_num_done = None
_stop = None


class _Stopped(Exception):
  """The conversion was given up while this shard was being written."""


def write_shards(
  jobs: Iterator[convert_shard.ShardJob],
  num_workers: int,
  on_patches: Callable[[int], None],
) -> Iterator[tuple[convert_shard.ShardJob, list[str]]]:
  """Yields each job when it is done, with its problems.

  Args:
    jobs: drawn only when a worker is free, since they hold many paths.
    num_workers: processes; 0 works in this one.
    on_patches: called with the number of patches done since the last call.
  """
  if num_workers == 0:
    for job in jobs:
      yield job, convert_shard.write_shard(job, lambda: on_patches(1))
    return
  # A forked process would share GDAL's locks and open files with this one.
  context = multiprocessing.get_context("spawn")
  num_done, stop = context.Value("q", 0), context.Event()
  with concurrent.futures.ProcessPoolExecutor(
    num_workers, context, _start_worker, (num_done, stop)
  ) as executor:
    try:
      yield from _write_in(executor, jobs, num_workers, num_done, on_patches)
    finally:
      stop.set()
      executor.shutdown(cancel_futures=True)


def _write_in(executor, jobs, num_workers, num_done, on_patches):
  pending = {}
  reported = 0
  while True:
    while len(pending) < num_workers + 1 and (job := next(jobs, None)):
      pending[executor.submit(_write_shard, job)] = job
    if not pending:
      return
    done, _ = concurrent.futures.wait(
      pending, 0.2, concurrent.futures.FIRST_COMPLETED
    )
    # Read once: the workers go on counting.
    total = num_done.value
    on_patches(total - reported)
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


def _write_shard(job: convert_shard.ShardJob) -> list[str]:
  return convert_shard.write_shard(job, _count_patch)


def _count_patch() -> None:
  if _stop.is_set():
    raise _Stopped
  with _num_done.get_lock():
    _num_done.value += 1
