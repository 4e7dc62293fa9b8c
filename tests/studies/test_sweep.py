"""Sweeps: plans, progress and jobs of SLURM."""

import json
import os
import re
import stat

import ml_collections
import pytest

# Its import closes all handlers of logging, those of pytest too.
import submitit  # noqa: F401

from flairhub_jax import __main__, config_file, lock, run_directory
from flairhub_jax.commands import sweep as command
from flairhub_jax.configs import base
from flairhub_jax.studies import sweep
from tests.studies.sweep_file import FILE, flags

pytestmark = pytest.mark.usefixtures("at_the_root")


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
  assert "b/seed-1 is already job 77_2" in capsys.readouterr().out
  assert not (tmp_path / "script").exists()
