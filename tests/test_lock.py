"""Locks among processes, with the system's own and where it has none."""

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
import errno, sys, time
from flairhub_jax import errors, lock

def refuse(*_):
  raise OSError(errno.ENOLCK, "No locks available")

path, kind, how_long = sys.argv[1:]
if kind == "lease":
  lock.fcntl.flock = refuse
lock._BEAT, lock._DEAD = 0.1, 1.0
try:
  lock.hold_to_the_end(path, what="training", patience=0)
except errors.InputError as error:
  sys.exit(str(error))
lock.hold_to_the_end(path, what="training")  # holds it already
print("held", flush=True)
time.sleep(float(how_long))
"""


def start(path, kind, seconds=60.0):
  return subprocess.Popen(
    [sys.executable, "-c", HOLD, str(path), kind, str(seconds)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=runs.ROOT,
  )


@pytest.mark.parametrize("kind", ["flock", "lease"])
def test_one_holds_until_it_is_gone(tmp_path, kind):
  path = tmp_path / "run" / "run.lock"
  first = start(path, kind)
  try:
    assert first.stdout.readline() == "held\n"
    _, told = start(path, kind).communicate(timeout=30)
    assert re.search(
      rf"{path.parent}: expected no other training at work here, found process"
      rf" {first.pid} on \S+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\n$",
      told,
    )
  finally:
    first.kill()
    first.communicate()
  # The system frees its lock at once, a lease is watched for a while.
  begin = time.monotonic()
  second = start(path, kind, 0.0)
  out, told = second.communicate(timeout=30)
  assert (second.returncode, out) == (0, "held\n"), told
  assert kind == "flock" or time.monotonic() - begin > 1.0
  # One that ends by itself leaves no lease to wait for.
  assert not list(path.parent.glob("*.lease"))


@pytest.fixture
def no_locks(monkeypatch):
  """A file system like Lustre's that is mounted without locks."""

  def refuse(*_):
    raise OSError(lock.errno.ENOSYS, "Function not implemented")

  monkeypatch.setattr(lock.fcntl, "flock", refuse)
  monkeypatch.setattr(lock, "_BEAT", 0.05)
  monkeypatch.setattr(lock, "_DEAD", 0.5)


def test_a_lease_is_told_by_its_mark(tmp_path, no_locks):
  path = tmp_path / "sweep.lock"
  with lock.hold(path, what="sweep") as mark:
    assert lock.is_held(path, mark) and not lock.is_held(path, "another")
    with pytest.raises(InputError, match=f"found process {os.getpid()} on"):
      with lock.hold(path, what="sweep"):
        pass
  assert not lock.is_held(path, mark)
  with lock.hold(path, what="sweep") as again:
    assert lock.is_held(path, again) and again != mark


def test_a_lease_that_was_renewed_meanwhile_is_not_removed(tmp_path):
  path = tmp_path / "run.lease"
  assert lock._create(path, "new")
  lock._remove(path, (0, "old"))
  assert path.read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_other_faults_of_the_disk_are_told(tmp_path, monkeypatch):
  def fail(*_):
    raise OSError(lock.errno.EIO, "Input/output error")

  monkeypatch.setattr(lock.fcntl, "flock", fail)
  with pytest.raises(OSError, match="Input/output"):
    lock.hold_to_the_end(tmp_path / "run.lock", what="training")
