"""Sweeps after an end: they wait for runs that save, and continue them."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from flairhub_jax import __main__, faults, lock, run_directory
from flairhub_jax.commands import sweep as command
from flairhub_jax.studies import sweep
from tests import test_lock
from tests.studies import stand_in
from tests.studies.sweep_file import flags
from tests.training import runs

pytestmark = pytest.mark.usefixtures("at_the_root")


def steps_of(run):
  if not run.metrics.exists():
    return []
  records = run_directory.read_records(run.metrics)
  return [r["step"] for r in records if r["kind"] == "train"]


def wait_for(condition, process):
  until = time.monotonic() + 120
  while not condition():
    assert process.poll() is None, "the sweep ended too early"
    assert time.monotonic() < until
    time.sleep(0.005)


def times_of_change(folder):
  files = [path for path in folder.rglob("*") if path.is_file()]
  return {path: path.stat().st_mtime_ns for path in files}


def process_of(run):
  return int(run.lock.read_text().split()[1])


def test_a_run_waits_for_a_process_that_still_saves(tmp_path, monkeypatch):
  directory = sweep.SweepDirectory(tmp_path)
  args = argparse.Namespace(split="test", subsets=None)
  calls = []

  def train_and_evaluate():
    return command._train_and_evaluate(
      directory, "a", args, lambda argv: calls.append(argv[0]) or ""
    )

  with lock.hold(directory.run("a").lock, what="training"):
    monkeypatch.setattr(faults, "GRACE", 0.1)
    assert f"process {os.getpid()}" in train_and_evaluate()
  holder = test_lock.start(directory.run("a").lock, "flock", 1.0)
  assert holder.stdout.readline() == "held\n"
  monkeypatch.setattr(faults, "GRACE", 30.0)
  assert train_and_evaluate() == "" and calls == ["train", "evaluate"]
  holder.communicate(timeout=30)


@pytest.mark.slow
def test_a_sweep_goes_on_after_it_or_its_runs_were_killed(
  capsys, file, tmp_path, converted, monkeypatch
):
  monkeypatch.setenv("XLA_FLAGS", runs.xla_flags(num_devices=1))
  directory = sweep.SweepDirectory(tmp_path / "w")
  a, b = directory.run("a/seed-0"), directory.run("b/seed-1")

  def argv(names, *more):
    return flags(f"{file}:{names}", directory.path, converted, *more)

  # A run is killed, then the sweep: its next run notices, saves and ends.
  process = subprocess.Popen(
    [sys.executable, "-m", "flairhub_jax", *argv("a/seed-0,b/seed-1")],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  wait_for((a.checkpoints / "4").is_dir, process)
  os.kill(process_of(a), signal.SIGKILL)
  wait_for(lambda: steps_of(b), process)
  orphan = process_of(b)
  process.kill()
  out, _ = process.communicate()
  assert re.search("a/seed-0 failed after .* killed", out), out
  until = time.monotonic() + 60
  while stand_in.is_alive(orphan):
    assert time.monotonic() < until
    time.sleep(0.05)
  saved = sweep.read_progress(b, "test").step
  assert steps_of(b)[-1] == saved < 30 and max(steps_of(a)) < 30

  # The same command continues both.
  assert __main__.main(argv("a/seed-0,b/seed-1,broken", "--jobs=2")) == 1
  out = capsys.readouterr().out
  assert "3 runs, 0 already finished" in out
  assert "a/seed-0 continues at step" in out
  assert f"b/seed-1 continues at step {saved}\n" in out
  assert re.search(r"broken failed after .*no_such_run", out), out
  table = [line.split()[:3] for line in out.splitlines()[-3:]]
  assert table == [
    ["a/seed-0", "finished", "30/30"],
    ["b/seed-1", "finished", "30/30"],
    ["broken", "failed", "-"],
  ]
  assert steps_of(a) == steps_of(b) == list(range(1, 31))

  # What is finished is not repeated.
  before = times_of_change(directory.path / "runs")
  assert __main__.main(argv("a/seed-0,b/seed-1")) == 0
  assert "2 runs, 2 already finished" in capsys.readouterr().out
  assert times_of_change(directory.path / "runs") == before
