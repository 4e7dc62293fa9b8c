"""Sweeps: what they plan, how they look after processes, how they go on."""

import argparse
import json
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import time

import ml_collections
import pytest

# Its import closes all handlers of logging, those of pytest too.
import submitit  # noqa: F401

from flairhub_jax import (
  __main__,
  config_file,
  faults,
  lock,
  run_directory,
)
from flairhub_jax.commands import sweep as command
from flairhub_jax.configs import base
from flairhub_jax.studies import sweep
from tests import test_lock
from tests.studies import stand_in
from tests.training import runs

ROOT = pathlib.Path(__file__).parents[2]

FILE = """
from tests import tiny

def get_runs(names="a/seed-0,broken,b/seed-1"):
  runs = []
  for number, name in enumerate(names.split(",")):
    config = tiny.get_config().lock()
    config.seed = number
    config.data.modalities = ("SENTINEL2_TS",)
    config.data.tasks = ("ALL_LABEL-LPIS",)
    config.train.num_steps = 30
    config.train.validate_every = 30
    config.train.save_every = 4
    if name == "broken":
      config.train.init_from = "no_such_run"
    runs.append((name, config))
  return runs
"""


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
  monkeypatch.chdir(ROOT)


@pytest.fixture
def file(tmp_path):
  path = tmp_path / "sweep_file.py"
  path.write_text(FILE)
  return path


def flags(file, workdir, converted, *more):
  return [
    "sweep",
    f"--config={file}",
    f"--workdir={workdir}",
    f"--config.data.path={converted}",
    *more,
  ]


def error_line(capsys, argv):
  assert __main__.main(argv) == 2
  captured = capsys.readouterr()
  assert "Traceback" not in captured.err
  assert len(captured.err.splitlines()) == 1, captured.err
  return captured.err


# ---- what is planned -------------------------------------------------------


def test_a_dry_run_shows_the_runs_and_leaves_nothing(
  capsys, file, tmp_path, converted
):
  argv = flags(file, tmp_path / "w", converted, "--dry-run")
  assert __main__.main(argv) == 0
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[:2] for line in lines] == [
    ["a/seed-0", "new"],
    ["broken", "new"],
    ["b/seed-1", "new"],
  ]
  assert "seed=1 train.init_from=no_such_run" in lines[1]
  assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
  ("names", "message"),
  [
    ("a,b,a", "a twice"),
    ("a,../b", "'../b'"),
    ("a,/b", "'/b'"),
    ("a,b/c/d", "'b/c/d'"),
    ("a,a b", "'a b'"),
    ("a,", "''"),
    ("a,a/seed-0", "a/seed-0"),
  ],
)
def test_names_that_cannot_be_folders_beside_each_other(
  capsys, file, tmp_path, converted, names, message
):
  argv = flags(f"{file}:{names}", tmp_path / "w", converted)
  assert message in error_line(capsys, argv)
  assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--config.optim.learning_rat=1", "learning_rate"),
    ("--config.tasks.ALL_LABEL-LPIS.wait=1", "found wait"),
    ("--config.data.batch_size=half", "half"),
    ("--split=tset", "tset"),
    ("--jobs=0", "--jobs"),
    ("--partition=gpu", "--executor slurm"),
    ("--executor=slurm", "--time"),
  ],
)
def test_a_wrong_flag_is_one_line(
  capsys, file, tmp_path, converted, flag, message
):
  argv = flags(file, tmp_path / "w", converted, flag)
  assert message in error_line(capsys, argv)
  assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("config.train.num_steps", "config.train.num_stepz", "num_steps"),
    (".lock()", "\n    config.optim.rate = 1.0", "config.optim.rate"),
    ("config.seed = number", "", "a and b alike"),
    ("def get_runs", "def runs", "`get_runs`"),
    ("from tests import tiny", "from tests import tny", "tny"),
    ("runs = []", "runs = [", "line 5"),
    ("append((name, config))", "append((name, name))", "a ConfigDict"),
  ],
)
def test_a_faulty_file_is_one_line(
  capsys, file, tmp_path, converted, old, new, message
):
  file.write_text(FILE.replace(old, new))
  argv = flags(f"{file}:a,b", tmp_path / "w", converted)
  assert message in error_line(capsys, argv)


def test_overrides_reach_every_run_published_ids_included(file):
  runs = config_file.load_runs(
    f"{file}:a,b",
    ["--config.tasks.ALL_LABEL-LPIS.weight=0.5", "--config.train.num_steps=7"],
  )
  for _, config in runs:
    assert config.tasks["ALL_LABEL-LPIS"].weight == 0.5
    assert config.train.num_steps == 7
  assert [config.seed for _, config in runs] == [0, 1]


@pytest.mark.parametrize(
  ("path", "count"),
  [
    ("configs/sweep_fusion.py", 42),
    ("configs/sweep_fusion.py:mid_concat", 6),
    ("configs/sweep_modalities.py", 72),
    ("configs/sweep_modalities.py:small", 72),
    ("configs/sweep_multitask.py", 18),
  ],
)
def test_the_sweeps_of_the_project(path, count):
  runs = config_file.load_runs(path)
  sweep.check_runs(runs, path)
  assert len(runs) == count


def test_a_run_that_was_planned_otherwise_is_refused(
  capsys, file, tmp_path, converted
):
  directory = sweep.SweepDirectory(tmp_path / "w")
  sweep.write_plan(directory, config_file.load_runs(f"{file}:a,b"))
  argv = flags(f"{file}:a,b", directory.path, converted)
  argv.append("--config.optim.weight_decay=0.5")
  line = error_line(capsys, argv)
  assert "optim.weight_decay: 0.01 in the run, 0.5 given" in line
  # Where the data lie is free.
  assert __main__.main([*argv[:-1], "--dry-run"]) == 0


def test_a_planned_configuration_can_be_trained_by_hand(file, tmp_path):
  directory = sweep.SweepDirectory(tmp_path)
  (plan,) = config_file.load_runs(f"{file}:a/seed-0")
  sweep.write_plan(directory, [plan])
  again = config_file.load_config_file(
    str(directory.config("a/seed-0")), ["--config.data.path=elsewhere"]
  )
  assert run_directory.conflicts(plan[1], again) == []
  assert again.data.path == "elsewhere"


def test_how_far_a_run_is(tmp_path):
  run = run_directory.RunDirectory(tmp_path / "run")
  assert sweep.read_progress(run, "test").state == "new"
  config = ml_collections.ConfigDict(base.get_config())
  config.train.num_steps, config.train.best_metric = 4, "t/miou"
  run_directory.start_or_continue(run.path, config)
  (run.checkpoints / "2").mkdir(parents=True)
  (run.checkpoints / "4.orbax-checkpoint-tmp").mkdir()
  records = [
    {"kind": "valid", "step": n, "t/miou": 10.0 * n} for n in (3, 2, 1)
  ]
  run.metrics.write_text("".join(json.dumps(r) + "\n" for r in records))
  progress = sweep.read_progress(run, "test")
  assert (progress.state, progress.step, progress.best) == ("unfinished", 2, 30)

  (run.checkpoints / "4").mkdir()
  assert sweep.read_progress(run, "test").state == "unfinished"  # no scores
  results = run.results("test")
  results.mkdir(parents=True)
  scores = {"step": 1, "tasks": {"t": {"miou": 5.0}}}
  (results / "scores.json").write_text(json.dumps(scores))
  assert sweep.read_progress(run, "test").state == "unfinished"  # old scores
  scores["step"] = 2
  (results / "scores.json").write_text(json.dumps(scores))
  assert sweep.read_progress(run, "test").state == "finished"
  assert sweep.read_progress(run, "valid").state == "unfinished"
  assert sweep.read_progress(run, "test", "all").state == "unfinished"


def test_two_sweeps_in_one_folder(capsys, file, tmp_path, converted):
  directory = sweep.SweepDirectory(tmp_path / "w")
  with lock.hold(directory.lock, what="sweep"):
    line = error_line(capsys, flags(file, directory.path, converted))
    assert "no other sweep" in line and f"process {os.getpid()}" in line


# ---- SLURM -----------------------------------------------------------------

OPTIONS = (
  "--executor=slurm",
  "--time=90",
  "--partition=gpu",
  "--account=crops",
  "--gpus=2",
  "--cpus=8",
  "--jobs=2",
  "--sbatch=qos=long",
)


def test_the_script_that_slurm_would_get(capsys, file, tmp_path, converted):
  argv = flags(file, tmp_path / "w", converted, *OPTIONS, "--dry-run")
  assert __main__.main(argv) == 0
  script = capsys.readouterr().out.partition("#!/bin/bash")[2]
  for line in (
    "array=0-2%2",
    "time=90",
    "signal=USR2@300",
    "partition=gpu",
    "account=crops",
    "gpus-per-node=2",
    "cpus-per-task=8",
    "qos=long",
  ):
    assert f"#SBATCH --{line}\n" in script
  assert re.search(
    r"\nsrun .* -m submitit\.core\._submit .*/logs/slurm", script
  )
  assert not (tmp_path / "w").exists()


def test_jobs_in_the_queue_are_not_submitted_again(
  capsys, file, tmp_path, converted, monkeypatch
):
  programs = tmp_path / "bin"
  programs.mkdir()
  for name, text in (
    ("srun", ""),
    ("sbatch", f"cp $1 {tmp_path}/script; echo Submitted batch job 77"),
    # The queue is what the file says; it is empty from the second look on.
    ("squeue", f"cat {tmp_path}/queue; : > {tmp_path}/queue"),
  ):
    path = programs / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
  monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
  monkeypatch.setattr(command, "_POLL", 0.0)
  (tmp_path / "queue").write_text("")

  argv = flags(file, tmp_path / "w", converted, *OPTIONS)
  assert __main__.main(argv) == 1  # they left the queue without scores
  out = capsys.readouterr().out
  assert "broken is job 77_1\n" in out and "[0/3] broken failed" in out
  assert "#SBATCH --array=0-2%2\n" in (tmp_path / "script").read_text()

  (tmp_path / "script").unlink()
  (tmp_path / "queue").write_text("77_0\n77_1\n12\n77_2\n")
  assert __main__.main(argv) == 1
  assert "b/seed-1 is job 77_2 already" in capsys.readouterr().out
  assert not (tmp_path / "script").exists()


# ---- a whole sweep, killed twice -------------------------------------------


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

  # The same command lets both go on.
  assert __main__.main(argv("a/seed-0,b/seed-1,broken", "--jobs=2")) == 1
  out = capsys.readouterr().out
  assert "3 runs, 0 finished before" in out
  assert "a/seed-0 goes on at step" in out
  assert f"b/seed-1 goes on at step {saved}\n" in out
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
  assert "2 runs, 2 finished before" in capsys.readouterr().out
  assert times_of_change(directory.path / "runs") == before
