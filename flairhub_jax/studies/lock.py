"""Who works in a folder: locks that the system frees when a process ends."""

import contextlib
import fcntl
import os
import pathlib
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator

from flairhub_jax.errors import InputError

# A watching process tries the lock for an instant; who wants it tries again.
_RETRY = 0.05


@contextlib.contextmanager
def hold(path: str | os.PathLike, *, what: str) -> Iterator[str]:
  """Holds the lock while the block runs; yields the mark of this holder.

  Args:
    path: file of the lock; made if it is not there, and left.
    what: what may be here only once, for the complaint.

  Raises:
    InputError: another process holds it, or the file system has no locks.
  """
  file, mark = _take(path, what, patience=1.0)
  with file:
    yield mark


def hold_to_the_end(
  path: str | os.PathLike, *, what: str, patience: float
) -> None:
  """Holds the lock until this process is gone, with all it may still write.

  Args:
    path: as of `hold`.
    what: as of `hold`.
    patience: seconds to wait for another holder to end.

  Raises:
    InputError: as `hold`.
  """
  file, _ = _take(path, what, patience)
  with file:
    os.dup(file.fileno())  # that only the system closes


def _take(path, what, patience):
  """Returns the file, locked and open, and the mark written into it."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  until = time.monotonic() + patience
  with contextlib.ExitStack() as closing:
    file = closing.enter_context(open(path, "a+", encoding="utf-8"))
    while not _try(file, path):
      if time.monotonic() > until:
        raise InputError(path, f"no other {what} at work here", _holder(path))
      time.sleep(_RETRY)
    mark = f"process {os.getpid()} on {socket.gethostname()} {uuid.uuid4().hex}"
    file.truncate(0)
    file.write(mark)
    file.flush()
    closing.pop_all()
  return file, mark


def is_held(path: str | os.PathLike, mark: str) -> bool:
  """Tells whether the holder with this mark still has the lock."""
  try:
    with open(path, "r+", encoding="utf-8") as file:
      return not _try(file, path) and file.read() == mark
  except FileNotFoundError:
    return False


def end_with(path: str | os.PathLike, mark: str) -> None:
  """Ends this process soon after the holder with this mark is gone.

  To be called from the main thread, which is interrupted then.
  """
  # What a shell started in the background ignores interrupts.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  threading.Thread(target=_watch, args=(path, mark), daemon=True).start()


def _watch(path: str | os.PathLike, mark: str) -> None:
  while is_held(path, mark):
    time.sleep(1.0)
  print("the sweep has ended, and this run with it", file=sys.stderr)
  os.kill(os.getpid(), signal.SIGINT)
  time.sleep(20)  # the main thread closes its files, unless it is compiling
  os._exit(1)


def _try(file, path: str | os.PathLike) -> bool:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError as error:
    raise InputError(path, "a file system with locks", error) from error
  return True


def _holder(path: pathlib.Path) -> str:
  text = path.read_text(encoding="utf-8")
  return " ".join(text.split()[:-1]) or "another process"
