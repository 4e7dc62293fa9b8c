"""The SLURM script, with stand-ins for the programs of a cluster."""

import os
import pathlib
import subprocess

import pytest

from flairhub_jax import config_file

SCRIPT = pathlib.Path(__file__).parents[2] / "experiments/slurm/train.sbatch"


@pytest.mark.parametrize(
  ("code", "is_queued_again"),
  [(0, False), (1, False), (2, False), (75, True), (138, True), (143, True)],
)
def test_a_job_that_saved_is_queued_again(tmp_path, code, is_queued_again):
  tools = tmp_path / "tools"
  activate = tmp_path / "flairhub_jax/.venv/bin/activate"
  for folder in (tools, activate.parent):
    folder.mkdir(parents=True)
  activate.touch()
  for name, end in {"srun": code, "scontrol": 0}.items():
    (tools / name).write_text(
      f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >> {tmp_path}/calls\nexit {end}\n'
    )
    (tools / name).chmod(0o755)
  done = subprocess.run(
    ["bash", SCRIPT],
    env={
      "HOME": str(tmp_path),
      "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
      "SLURM_JOB_ID": "17",
    },
  )
  assert done.returncode == code
  calls = (tmp_path / "calls").read_text().splitlines()
  assert calls[:3] == ["srun", "flairhub", "train"]
  assert f"--workdir={tmp_path}/runs/lc-l" in calls
  assert (calls[-3:] == ["scontrol", "requeue", "17"]) == is_queued_again
  overrides = [x for x in calls if x.startswith("--config.")]
  config = config_file.load_config_file(calls[3].split("=")[1], overrides)
  assert config.data.path == f"{tmp_path}/records"
