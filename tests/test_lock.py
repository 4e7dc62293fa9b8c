"""Locks among processes, with the system's own and where it has none."""

import errno
import fcntl
import os
import re
import subprocess
import sys
import time

import pytest

from flairhub_jax import lock
from flairhub_jax.errors import InputError
from tests.training import runs

HOLD = """
import errno, fcntl, socket, sys, time
from flairhub_jax import errors, lock

def refuse(*_):
  raise OSError(errno.ENOLCK, "No locks available")

path, kind, host, how_long = sys.argv[1:]
if kind == "lease":
  fcntl.flock = refuse
if host:
  socket.gethostname = lambda: host
lock._RENEWAL, lock._EXPIRY = 0.1, 1.0
try:
  lock.acquire_for_life(path, what="training")
except errors.InputError as error:
  sys.exit(str(error))
lock.acquire_for_life(path, what="training")  # holds it already
print("held", flush=True)
time.sleep(float(how_long))
"""


def start(path, kind, seconds=60.0, host=""):
  return subprocess.Popen(
    [sys.executable, "-W", "error", "-c", HOLD, str(path), kind, host]
    + [str(seconds)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=runs.ROOT,
  )


@pytest.mark.parametrize(
  ("kind", "host"), [("flock", ""), ("lease", ""), ("lease", "elsewhere")]
)
def test_a_lock_is_held_until_its_process_ends(tmp_path, kind, host):
  path = tmp_path / "run" / "run.lock"
  first = start(path, kind, host=host)
  try:
    assert first.stdout.readline() == "held\n"
    _, message = start(path, kind).communicate(timeout=30)
    where = host or r"\S+"
    assert re.search(
      rf"{path.parent}: expected no other training in this folder, found"
      rf" process {first.pid} on {where}"
      r" since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n$",
      message,
    )
  finally:
    first.kill()
    first.communicate()
  # The system frees its lock at once; so does a lease of a process of this
  # host, while that of another host is watched for a while.
  begin = time.monotonic()
  second = start(path, kind, 0.0)
  out, message = second.communicate(timeout=30)
  assert (second.returncode, out) == (0, "held\n"), message
  assert not host or time.monotonic() - begin > 1.0
  # One that ends by itself leaves no lease to wait for.
  assert not list(path.parent.glob("*.lease"))
  if kind == "flock":
    assert message == ""  # no file is left open, of which Python would warn


def test_the_holder_of_a_lease_that_is_lost_ends(tmp_path):
  path = tmp_path / "run.lock"
  holder = start(path, "lease")
  assert holder.stdout.readline() == "held\n"
  path.with_suffix(".lease").unlink()
  _, message = holder.communicate(timeout=30)
  assert holder.returncode == 1 and "another process took over" in message


@pytest.fixture
def no_locks(monkeypatch):
  """A file system like Lustre's that is mounted without locks."""

  def refuse(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")

  monkeypatch.setattr(fcntl, "flock", refuse)
  monkeypatch.setattr(lock, "_RENEWAL", 0.05)
  monkeypatch.setattr(lock, "_EXPIRY", 0.5)


def test_a_lease_is_free_after_its_block(tmp_path, no_locks):
  path = tmp_path / "sweep.lock"
  with lock.hold(path, what="sweep"):
    with pytest.raises(InputError, match=f"found process {os.getpid()} on"):
      with lock.hold(path, what="sweep"):
        pass
  with lock.hold(path, what="sweep"):
    pass


def test_other_disk_errors_are_reported(tmp_path, monkeypatch):
  def fail(*_):
    raise OSError(errno.EIO, "Input/output error")

  monkeypatch.setattr(fcntl, "flock", fail)
  with pytest.raises(OSError, match="Input/output"):
    lock.acquire_for_life(tmp_path / "run.lock", what="training")
