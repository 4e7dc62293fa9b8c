"""Who works in a folder: locks that are free as soon as their holder is gone.

Linux hands `flock` on to NFS (as locks of byte ranges), Lustre and other
network file systems, so that it holds among hosts; a lock ends with its
process, even with one that is killed.

Some mounts have no locks. A lease serves there: a file whose holder renews its
time of change. Whoever wants it watches it by a clock of its own, as clocks of
hosts differ: one that has not been renewed for a minute is free.
"""

import atexit
import contextlib
import errno
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

# Seconds. A watching process tries the lock for an instant; who wants it tries
# again.
_RETRY = 0.05
# A lease is renewed so often, and free when it has not been for so long. NFS
# may show a change three seconds late.
_BEAT, _DEAD = 10.0, 60.0

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# Locks that this process keeps until it ends.
_kept: set[str] = set()


@contextlib.contextmanager
def hold(path: str | os.PathLike, *, what: str) -> Iterator[str]:
  """Holds the lock while the block runs; yields the mark of this holder.

  Args:
    path: file of the lock; made if it is not there, and left.
    what: what may be here only once, for the complaint.

  Raises:
    InputError: another process holds it.
  """
  held = _take(pathlib.Path(path), what, patience=1.0)
  try:
    yield held.mark
  finally:
    held.release()


def hold_to_the_end(
  path: str | os.PathLike, *, what: str, patience: float = 1.0
) -> None:
  """Holds the lock until this process is gone, with all it may still write.

  Where this process holds it already, nothing happens.

  Args:
    path: as of `hold`.
    what: as of `hold`.
    patience: seconds to wait for another holder to end.

  Raises:
    InputError: as `hold`.
  """
  path = pathlib.Path(path).absolute()
  if str(path) in _kept:
    return
  held = _take(path, what, patience)
  _kept.add(str(path))
  if isinstance(held, _Lease):
    atexit.register(held.release)


def is_held(path: str | os.PathLike, mark: str) -> bool:
  """Tells whether the holder with this mark still has the lock."""
  path = pathlib.Path(path)
  if _look(_lease_of(path))[1] == mark:
    return True
  try:
    with open(path, "r+", encoding="utf-8") as file:
      return not _try(file) and file.read() == mark
  except OSError:
    return False


def end_with(path: str | os.PathLike, mark: str) -> None:
  """Ends this process soon after the holder with this mark is gone.

  To be called from the main thread, which is interrupted then.
  """
  # What a shell started in the background ignores interrupts.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  threading.Thread(target=_watch, args=(path, mark), daemon=True).start()


def _watch(path: str | os.PathLike, mark: str) -> None:
  lease, heard = None, time.monotonic()
  while is_held(path, mark):
    if lease != (lease := _look(_lease_of(pathlib.Path(path)))):
      heard = time.monotonic()
    if lease != _NOTHING and time.monotonic() - heard > _DEAD:
      break
    time.sleep(1.0)
  print("the sweep has ended, and this run with it", file=sys.stderr)
  os.kill(os.getpid(), signal.SIGINT)
  time.sleep(20)  # the main thread closes its files, unless it is compiling
  os._exit(1)


def _take(path: pathlib.Path, what: str, patience: float):
  """Returns what is held, a lock of the system or a lease."""
  path.parent.mkdir(parents=True, exist_ok=True)
  since = time.strftime("%Y-%m-%d %H:%M:%S")
  who = f"process {os.getpid()} on {socket.gethostname()} since {since}"
  mark = f"{who} {uuid.uuid4().hex}"
  until = time.monotonic() + patience
  while True:
    try:
      held = _SystemLock.take(path, mark)
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        raise
      held = _Lease.take(_lease_of(path), mark)
    if held is not None:
      return held
    if time.monotonic() > until:
      text = _look(_lease_of(path))[1] or _look(path)[1]
      who = " ".join(text.split()[:-1]) or "another process"
      raise InputError(path.parent, f"no other {what} at work here", who)
    time.sleep(_RETRY)


class _SystemLock:
  """A lock of the system on a file that stays."""

  def __init__(self, file, mark: str):
    self.mark, self._file = mark, file
    # A number of its own, which only the system closes if nobody releases it.
    self._number = os.dup(file.fileno())

  @classmethod
  def take(cls, path: pathlib.Path, mark: str):
    """Returns None where another process holds it."""
    with contextlib.ExitStack() as closing:
      file = closing.enter_context(open(path, "a+", encoding="utf-8"))
      if not _try(file):
        return None
      file.truncate(0)
      file.write(mark)
      file.flush()
      os.fsync(file.fileno())
      closing.pop_all()
    return cls(file, mark)

  def release(self) -> None:
    os.close(self._number)
    self._file.close()


def _try(file) -> bool:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  return True


# ---- leases ----------------------------------------------------------------

# Time of change and text of a lease that is not there.
_NOTHING = (0, "")


class _Lease:
  """A file that its holder renews, where the system has no locks."""

  def __init__(self, path: pathlib.Path, mark: str):
    self._path, self.mark = path, mark
    self._released = threading.Event()
    threading.Thread(target=self._renew, daemon=True).start()

  @classmethod
  def take(cls, path: pathlib.Path, mark: str):
    """Returns None where another process holds it."""
    while not _create(path, mark):
      before, start = _look(path), time.monotonic()
      if before != _NOTHING:
        print(f"{path}: waiting whether it is renewed", file=sys.stderr)
      while before == _look(path) != _NOTHING:
        if time.monotonic() - start > _DEAD:
          _remove(path, before)
          break
        time.sleep(_BEAT / 10)
      else:
        if _look(path) != _NOTHING:
          return None
    return cls(path, mark)

  def _renew(self):
    while not self._released.wait(_BEAT):
      try:
        if self._path.read_text(encoding="utf-8") == self.mark:
          os.utime(self._path)
          continue
      except FileNotFoundError:
        pass
      except OSError:
        continue  # The server may come back in time.
      if not self._released.is_set():
        # This process was suspended for long, or its host was cut off.
        print(f"{self._path}: another process took over", file=sys.stderr)
        os._exit(1)

  def release(self) -> None:
    self._released.set()
    seen = _look(self._path)
    if seen[1] == self.mark:
      _remove(self._path, seen)


def _lease_of(path: pathlib.Path) -> pathlib.Path:
  return path.with_suffix(".lease")


def _create(path: pathlib.Path, text: str) -> bool:
  """Makes the file, unless it is there; on NFS and Lustre too one wins."""
  try:
    with open(path, "x", encoding="utf-8") as file:
      file.write(text)
  except FileExistsError:
    return False
  return True


def _look(path: pathlib.Path) -> tuple[int, str]:
  """Time of change in ns and text; opened anew, as NFS asks the server then."""
  try:
    with open(path, encoding="utf-8") as file:
      return os.fstat(file.fileno()).st_mtime_ns, file.read()
  except OSError:
    return _NOTHING


def _remove(path: pathlib.Path, seen: tuple[int, str]) -> None:
  """Removes a lease that is as it was seen; of several who try, one does."""
  aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
  try:
    os.rename(path, aside)
  except FileNotFoundError:
    return
  if _look(aside)[1] == seen[1]:
    aside.unlink()
  else:  # Another one was faster, and has a lease of its own already.
    os.rename(aside, path)
