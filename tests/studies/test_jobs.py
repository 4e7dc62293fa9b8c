"""Processes of a sweep: how many at a time, how each may end."""

import os
import signal
import sys
import time

import pytest

from flairhub_jax import faults
from flairhub_jax.commands import sweep
from flairhub_jax.errors import InputError
from flairhub_jax.studies import jobs
from tests.studies import stand_in


@pytest.fixture(autouse=True)
def program(tmp_path, monkeypatch):
  """Starts the stand-in where `flairhub` would be started."""
  path = tmp_path / "python"
  command = f'exec {sys.executable} {stand_in.__file__} "$@"'
  path.write_text(f"#!/bin/sh\n{command}\n")
  path.chmod(0o755)
  monkeypatch.setattr(jobs.sys, "executable", str(path))


def run_jobs(tmp_path, ways, max_concurrent):
  faults = {}
  jobs.run_local(
    list(ways),
    lambda name, slot: slot.run(
      [ways[name], str(tmp_path / name)], tmp_path / "logs" / name, os.environ
    ),
    max_concurrent=max_concurrent,
    started=lambda name: None,
    ended=faults.__setitem__,
  )
  return faults


def test_a_failed_process_does_not_stop_the_rest(tmp_path):
  ways = dict(a="dies", b="raises", c="refuses", d="succeeds")
  faults = run_jobs(tmp_path, ways, max_concurrent=2)
  assert "killed" in faults["a"]
  assert faults["b"] == "RuntimeError: no folder"
  assert faults["c"] == "expected a folder, found a file"
  assert faults["d"] == "" and (tmp_path / "d").exists()
  assert (tmp_path / "logs" / "b" / "stderr.txt").read_text().count(
    "folder"
  ) > 0


@pytest.fixture(params=["heeds", "ignores, as in the background"])
def interrupts(request):
  """What this process does at an interrupt; those it starts inherit it."""
  before = signal.getsignal(signal.SIGINT)
  heeds = request.param == "heeds"
  signal.signal(
    signal.SIGINT, signal.default_int_handler if heeds else signal.SIG_IGN
  )
  yield
  signal.signal(signal.SIGINT, before)


def interrupt_when_started(path, way):
  """Returns the number of the process that was interrupted."""

  def job(name, slot):
    if name == "job":
      return slot.run([way, str(path)], path.parent / "logs", os.environ)
    until = time.monotonic() + 30
    while not (path.exists() and path.read_text()) and time.monotonic() < until:
      time.sleep(0.01)
    raise KeyboardInterrupt

  ended = []
  with pytest.raises(KeyboardInterrupt):
    jobs.run_local(
      ["job", "interrupt", "later"],
      job,
      max_concurrent=2,
      started=lambda name: None,
      ended=lambda name, fault: ended.append(name),
    )
  assert ended == []
  return int(path.read_text())


def test_at_an_interrupt_what_runs_saves_and_ends(tmp_path, interrupts):
  pid = interrupt_when_started(tmp_path / "a", "saves")
  assert not stand_in.is_alive(pid)
  assert (tmp_path / "a.saved").exists()


def test_a_job_that_ignores_an_interrupt_is_killed(tmp_path, monkeypatch):
  monkeypatch.setattr(faults, "GRACE", 0.2)
  pid = interrupt_when_started(tmp_path / "a", "hangs")
  child = int((tmp_path / "a.child").read_text())
  assert not stand_in.is_alive(pid)
  until = time.monotonic() + 10  # nobody waits for the child of a child
  while stand_in.is_alive(child) and time.monotonic() < until:
    time.sleep(0.01)
  assert not stand_in.is_alive(child)


@pytest.mark.parametrize("max_concurrent", [1, 2])
def test_limit_of_concurrent_jobs_each_on_its_cores(tmp_path, max_concurrent):
  names = "abc"
  cores = os.sched_getaffinity(0)
  run_jobs(tmp_path, dict.fromkeys(names, "succeeds"), max_concurrent)
  assert os.sched_getaffinity(0) == cores
  notes = [(tmp_path / n).read_text().split() for n in names]
  spans = [(float(start), float(end)) for start, end, _ in notes]
  for moment, _ in spans:
    assert sum(start <= moment < end for start, end in spans) <= max_concurrent
  assert {int(n) for *_, n in notes} == {max(1, len(cores) // max_concurrent)}


def test_cores_and_gpus_of_slots():
  cores = jobs.slot_cores
  assert [cores(range(8), p, 3) for p in range(3)] == [(0, 1), (2, 3), (4, 5)]
  assert [cores((4, 9), p, 3) for p in range(3)] == [(4,), (9,), (4,)]
  gpus = sweep.slot_gpus
  assert gpus(None, 1, 2) == "2,3"
  assert gpus("4,5,6,7", 1, 2) == "6,7"
  with pytest.raises(InputError, match="4 GPUs"):
    gpus("0,1,2", 1, 2)
