"""Work in processes of its own: how many at a time, how each may end."""

import os
import signal
import time

import pytest

from flairhub_jax.commands import sweep
from flairhub_jax.errors import InputError
from flairhub_jax.studies import jobs
from tests.studies import works


def run_works(tmp_path, ways, at_a_time):
  faults = {}
  jobs.run_local(
    list(ways),
    lambda name, place: works.Note(str(tmp_path / name), ways[name]),
    lambda name: tmp_path / "logs" / name,
    at_a_time=at_a_time,
    environment={},
    started=lambda name: None,
    ended=faults.__setitem__,
  )
  return faults


def test_one_that_fails_does_not_stop_the_others(tmp_path):
  ways = dict(a="dies", b="raises", c="complains", d="well")
  faults = run_works(tmp_path, ways, at_a_time=2)
  assert "killed" in faults["a"]
  assert faults["b"] == "RuntimeError: no bread"
  assert faults["c"] == "expected bread, found stones"
  assert faults["d"] == "" and (tmp_path / "d").exists()


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


def test_an_interrupt_ends_what_runs(tmp_path, interrupts):
  note = tmp_path / "a"

  def interrupt(name):
    until = time.monotonic() + 30
    while not (note.exists() and note.read_text()) and time.monotonic() < until:
      time.sleep(0.01)
    raise KeyboardInterrupt

  work = works.Note(str(note), "waits")
  with pytest.raises(KeyboardInterrupt):
    jobs.run_local(
      ["a"],
      lambda name, place: work,
      lambda name: tmp_path / "logs",
      at_a_time=1,
      environment={},
      started=interrupt,
      ended=lambda name, fault: None,
    )
  assert not works.is_alive(int(note.read_text()))


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_no_more_at_a_time_than_asked_each_on_its_share(tmp_path, at_a_time):
  names = "abc"
  cores = os.sched_getaffinity(0)
  run_works(tmp_path, dict.fromkeys(names, "well"), at_a_time)
  assert os.sched_getaffinity(0) == cores
  notes = [(tmp_path / n).read_text().split() for n in names]
  spans = [(float(start), float(end)) for start, end, _ in notes]
  for moment, _ in spans:
    assert sum(start <= moment < end for start, end in spans) <= at_a_time
  assert {int(n) for *_, n in notes} == {max(1, len(cores) // at_a_time)}


def test_shares_of_cores_and_of_gpus():
  share = jobs.share_of_cores
  assert [share(range(8), p, 3) for p in range(3)] == [(0, 1), (2, 3), (4, 5)]
  assert [share((4, 9), p, 3) for p in range(3)] == [(4,), (9,), (4,)]
  gpus = sweep.share_of_gpus
  assert gpus(None, 1, 2) == "2,3"
  assert gpus("4,5,6,7", 1, 2) == "6,7"
  assert gpus("3", 0, None) == "3"
  with pytest.raises(InputError, match="4 GPUs"):
    gpus("0,1,2", 1, 2)
