"""A fault of one process ends all processes of a job, with one line and code.

A process that fails writes its line and exit code to JAX's key-value store of
the job. A thread of every process polls the store and ends the process, even
while its main thread is blocked in a collective operation.

A killed process cannot write. JAX detects missing heartbeats and aborts the
other processes with pages of text, which are replaced by one line.
"""

import atexit
import contextlib
import ctypes
import json
import multiprocessing
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from typing import Any

# JAX considers a process lost after so many seconds without a heartbeat.
HEARTBEAT_TIMEOUT = 40
_POLL = 1.0
# Name of the fault in the store.
_KEY = "flairhub/fault"
# The first process hosts the store: it waits until the others have read it.
_PATIENCE = 15.0
# Variable with the id of the parent process whose end stops this one.
PARENT = "FLAIRHUB_PARENT"
# Seconds that a process has to finish a step or a validation, and to save.
GRACE = 300.0

# Log records of C++ start with level, date, time, thread and file.
_RECORD = re.compile(r"^(?=[IWEF]\d{4} \d\d:\d\d:)", re.MULTILINE)
_OF_THE_JOB = re.compile(
  r".*? (coordination_service\w*|preemption_sync_manager)\.cc:"
)
_LOST = "Terminating process because the JAX distributed service"
# Errors of a collective operation or a barrier, possibly of a lost process.
_NO_ANSWER = re.compile(
  r"(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED"
  r"|FAILED_PRECONDITION): "
)

_watch = None


class _Watch:
  """Monitors the processes of a job, from one of them."""

  def __init__(self):
    """Captures stderr and aborts of C++; `begin` starts monitoring."""
    self._index, self._count, self._store = 0, 1, None
    self._is_ending = threading.Lock()
    self._stderr = _CapturedStderr()
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    # Python's own handlers run in the main thread, which may be blocked.
    self._on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
    libc.signal(signal.SIGABRT, ctypes.cast(self._on_abort, ctypes.c_void_p))
    atexit.register(self._stderr.restore)

  def begin(self, store: Any, index: int, count: int) -> None:
    self._store, self._index, self._count = store, index, count
    threading.Thread(target=self._poll, daemon=True).start()

  def _poll(self):
    while True:
      self._stderr.forward()
      try:
        message = self._store.key_value_try_get(_KEY)
      except RuntimeError as error:  # JaxRuntimeError is one
        if "NOT_FOUND" not in str(error):
          return  # The job is over, or this process is about to be aborted.
        time.sleep(_POLL)
        continue
      with self._is_ending:
        self._leave(**json.loads(message))

  def end(self, code: int, line: str, error: BaseException, own: str) -> None:
    """Reports to the others and ends this process; does not return."""
    if _may_be_of_another(error):
      # The process that failed first reports it, or misses its heartbeats.
      time.sleep(HEARTBEAT_TIMEOUT + 5)
    with self._is_ending:
      where = f"process {self._index} on {socket.gethostname()}"
      message = {"code": code, "line": f"{where}: {line}"}
      try:
        self._store.key_value_set(_KEY, json.dumps(message))
      except RuntimeError:  # ALREADY_EXISTS: another one was first
        with contextlib.suppress(RuntimeError):
          code = json.loads(self._store.key_value_try_get(_KEY))["code"]
      print(own, file=sys.stderr)
      self._leave(code, None)

  def _leave(self, code: int, line: str | None):
    """Ends this process; the first one when all others know."""
    if line:
      print(f"\nflairhub: {line}", file=sys.stderr)  # below the bar
    self._stderr.forward()
    with contextlib.suppress(RuntimeError):
      self._store.key_value_set(f"{_KEY}/read/{self._index}", "")
    until = time.monotonic() + _PATIENCE
    while self._index == 0 and time.monotonic() < until:
      read = self._store.key_value_dir_get(f"{_KEY}/read/")
      if len(read) == self._count:
        break
      time.sleep(0.1)
    _exit(code)

  def _aborted(self, number):
    """Signal handler; runs in the thread that aborts."""
    self._stderr.forward()
    lost = self._stderr.lost
    if not lost:
      return  # A fault of this process itself: the default handler follows.
    with self._is_ending:
      if self._store is None:
        line = "the other processes did not connect"
      else:
        found = re.search(r"[Tt]ask:? (\d+)|heartbeats\):\s+(\d+)", lost)
        who = f"process {found[1] or found[2]}" if found else "process 0"
        line = f"{who} was lost (killed, or its host is unreachable)"
      print(f"\nflairhub: {line}", file=sys.stderr)
      _exit(1)


class _CapturedStderr:
  """Filters what C++ writes to stderr; Python's stderr is unchanged."""

  def __init__(self):
    self._file = tempfile.TemporaryFile()
    self._read, self._lock = 0, threading.Lock()
    # JAX's message before it aborts because a process of the job is lost.
    self.lost, self._is_dropping = "", False
    sys.stderr.flush()
    self._real = os.dup(2)
    os.dup2(self._file.fileno(), 2)
    self._before = sys.stderr
    sys.stderr = open(
      os.dup(self._real), "w", buffering=1, errors="backslashreplace"
    )

  def forward(self) -> None:
    """Writes new text to stderr, except JAX's messages on lost processes."""
    with self._lock:
      end = os.fstat(self._file.fileno()).st_size
      new = os.pread(self._file.fileno(), end - self._read, self._read)
      self._read = end
      for record in _RECORD.split(new.decode(errors="replace")):
        if _RECORD.match(record):
          is_lost = _LOST in record
          self._is_dropping = is_lost or bool(_OF_THE_JOB.match(record))
          self.lost += record if is_lost else ""
        if record and not self._is_dropping:
          with contextlib.suppress(OSError):
            os.write(self._real, record.encode())

  def restore(self) -> None:
    self.forward()
    os.dup2(self._real, 2)
    sys.stderr = self._before


def prepare() -> None:
  """Captures aborts and stderr of C++, before `jax.distributed` starts."""
  global _watch
  _watch = _Watch()


def watch(store: Any, index: int, count: int) -> None:
  """Monitors the other processes of the job until this one ends.

  Args:
    store: client of JAX's key-value store of the job.
    index: of this process.
    count: of processes.
  """
  _watch.begin(store, index, count)


def end(code: int, error: BaseException, line: str, own: str) -> None:
  """Ends all processes of the job with `code`; returns if this is the only one.

  Args:
    code: exit code.
    error: the exception. An error of a collective operation is reported only if
      no other process reports its cause.
    line: printed by the other processes, after the name of this process.
    own: printed by this process.
  """
  if _watch is not None:
    _watch.end(code, line, error, own)


def _may_be_of_another(error: BaseException | None) -> bool:
  while error is not None:
    if _NO_ANSWER.match(str(error)):
      return True
    error = error.__cause__ or error.__context__
  return False


def _exit(code: int) -> None:
  """Ends at once: the main thread may be blocked."""
  with contextlib.suppress(OSError, ValueError):  # of a closed file
    sys.stdout.flush()
    sys.stderr.flush()
  for child in multiprocessing.active_children():
    child.kill()
  os._exit(code)


# ---- a process that ends with its parent -----------------------------------


def end_with_parent() -> None:
  """Sends this process SIGTERM when its parent ends.

  Does nothing unless the parent has put its process id into `PARENT`.
  """
  parent = os.environ.pop(PARENT, None)
  if parent is not None:
    threading.Thread(
      target=_wait_for_parent, args=(int(parent),), daemon=True
    ).start()


def _wait_for_parent(parent: int) -> None:
  while os.getppid() == parent:
    time.sleep(0.2)
  print("the sweep has ended, and this run with it", file=sys.stderr)
  os.kill(os.getpid(), signal.SIGTERM)
  time.sleep(GRACE)
  _exit(1)
