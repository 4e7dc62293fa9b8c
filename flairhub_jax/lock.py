"""Locks on folders, released when their process ends, even if it is killed.

Linux forwards `flock` to NFS (as locks of byte ranges), Lustre and other
network file systems, so that it works across hosts.

On mounts without locks a lease replaces it: a file whose modification time the
holder renews. It expires after a minute without renewal, measured by the clock
of the waiting host, or at once if its holder was a process of this host that no
longer exists.
"""

import contextlib
import errno
import os
import pathlib
import socket
import sys
import time
from collections.abc import Iterator

import filelock

from flairhub_jax.errors import InputError

# Seconds between two renewals of a lease, and until it expires. NFS may show a
# renewal three seconds late.
_RENEWAL, _EXPIRY = 10.0, 60.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

# filelock releases them when the interpreter exits.
_held_for_life: dict[pathlib.Path, filelock.BaseFileLock] = {}


@contextlib.contextmanager
def hold(
  path: str | os.PathLike, *, what: str, patience: float = 1.0
) -> Iterator[None]:
  """Holds the lock while the block runs.

  Args:
    path: lock file; created if needed, and not removed.
    what: the work that excludes other such work here, for the error.
    patience: seconds to wait for another holder.

  Raises:
    InputError: another process holds it.
  """
  lock = _acquire(pathlib.Path(path), what, patience)
  try:
    yield
  finally:
    lock.release()


def acquire_for_life(path: str | os.PathLike, *, what: str) -> None:
  """Holds the lock until this process ends; a second call does nothing.

  Args:
    path: as of `hold`.
    what: as of `hold`.

  Raises:
    InputError: as `hold`.
  """
  path = pathlib.Path(path).absolute()
  if path not in _held_for_life:
    _held_for_life[path] = _acquire(path, what, patience=1.0)


def _acquire(
  path: pathlib.Path, what: str, patience: float
) -> filelock.BaseFileLock:
  """Acquires a lock of the system, or a lease."""
  path.parent.mkdir(parents=True, exist_ok=True)
  since = time.strftime("%Y-%m-%d %H:%M:%S")
  try:
    try:
      lock = filelock.FileLock(path, fallback_to_soft=False)
      lock.acquire(timeout=patience)
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        raise
      lock = _acquire_lease(path.with_suffix(".lease"), patience)
  except filelock.Timeout as error:
    holder = path.read_text(encoding="utf-8") or "another process"
    raise InputError(
      path.parent, f"no other {what} in this folder", holder
    ) from error
  path.write_text(
    f"process {os.getpid()} on {socket.gethostname()} since {since}",
    encoding="utf-8",
  )
  return lock


def _acquire_lease(
  path: pathlib.Path, patience: float
) -> filelock.BaseFileLock:
  """Waits until the lease is free, or is seen to be renewed."""
  lease = filelock.SoftFileLease(
    path,
    lease_duration=_EXPIRY,
    heartbeat_interval=_RENEWAL,
    on_compromise=_end,
  )
  renewed, until = _time_of_change(path), time.monotonic() + patience
  if renewed:
    print(f"{path}: waiting to see if it is renewed", file=sys.stderr)

  def is_held() -> bool:
    is_renewed = _time_of_change(path) not in (renewed, None)
    return is_renewed and time.monotonic() > until

  lease.acquire(
    timeout=patience + _EXPIRY + _RENEWAL,
    poll_interval=_RENEWAL / 10,
    cancel_check=is_held,
  )
  return lease


def _time_of_change(path: pathlib.Path) -> int | None:
  """In ns; None without a file."""
  try:
    return path.stat().st_mtime_ns
  except FileNotFoundError:
    return None


def _end(loss: filelock.LeaseCompromise) -> None:
  """Ends this process, which failed to renew its lease for too long."""
  print(f"{loss.lock_file}: another process took over", file=sys.stderr)
  os._exit(1)
