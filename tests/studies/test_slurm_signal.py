"""A job of a sweep on SLURM whose time is up, with stand-ins for SLURM."""

import os
import signal
import subprocess
import sys
import time

import pytest

# Its import closes all handlers of logging, those of pytest too.
import submitit  # noqa: F401

from flairhub_jax import __main__, run_directory
from flairhub_jax.commands import sweep as command
from flairhub_jax.studies import sweep
from tests.training import runs

FILE = """
from tests import tiny

def get_runs():
  config = tiny.get_config().lock()
  config.data.modalities = ("SENTINEL2_TS",)
  config.data.tasks = ("ALL_LABEL-LPIS",)
  config.train.num_steps = 12
  config.train.validate_every = 12
  config.train.save_every = 1000
  return [("a", config)]
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
  """Programs that note how they are called, and an empty queue."""
  programs = tmp_path / "bin"
  programs.mkdir()
  for name, text in (
    ("srun", ""),
    ("sbatch", "echo Submitted batch job 77"),
    ("squeue", ""),
    ("scontrol", f'echo "$@" >> {tmp_path}/scontrol'),
  ):
    (programs / name).write_text(f"#!/bin/sh\n{text}\n")
    (programs / name).chmod(0o755)
  monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
  monkeypatch.setattr(command, "_POLL", 0.0)
  monkeypatch.chdir(runs.ROOT)


def start(folder):
  """The job, as the script that submitit hands to sbatch starts it."""
  return subprocess.Popen(
    [sys.executable, "-u", "-m", "submitit.core._submit", str(folder)],
    env=runs.environment(1)
    | {
      "SUBMITIT_EXECUTOR": "slurm",
      "SLURM_JOB_ID": "77",
      "SLURM_NTASKS": "1",
      "SLURM_STEP_NUM_TASKS": "1",
      "SLURM_PROCID": "0",
      "SLURM_LOCALID": "0",
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def logged_steps(run):
  return [
    r["step"] for r in run_directory.read_records(run.metrics)
    if r["kind"] == "train"
  ]  # fmt: skip


@pytest.mark.slow
def test_a_job_saves_when_its_time_is_up_and_goes_on(
  slurm, tmp_path, converted
):
  file = tmp_path / "sweep_file.py"
  file.write_text(FILE)
  argv = [
    "sweep",
    f"--config={file}",
    f"--workdir={tmp_path / 'w'}",
    f"--config.data.path={converted}",
    "--executor=slurm",
    "--time=90",
  ]
  assert __main__.main(argv) == 1  # it left the queue without scores
  directory = sweep.SweepDirectory(tmp_path / "w")
  run = directory.run("a")

  process = start(directory.logs("slurm"))
  while len(logged_steps(run)) < 3:
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.005)
  process.send_signal(signal.SIGUSR2)  # what `#SBATCH --signal` asks for
  message, _ = process.communicate(timeout=120)
  assert process.returncode == 255, message
  assert (tmp_path / "scontrol").read_text() == "requeue 77\n"
  (saved,) = (int(f.name) for f in run.checkpoints.iterdir())
  assert saved == logged_steps(run)[-1] and 3 <= saved < 12

  process = start(directory.logs("slurm"))
  message, _ = process.communicate(timeout=240)
  assert process.returncode == 0, message
  assert f"step {saved} of 12" in message
  assert logged_steps(run) == list(range(1, 13))
  assert sweep.read_progress(run, "test").state == "finished"
