"""Training runs in processes of their own."""

import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[2]


def xla_flags(num_devices):
  """Number of devices; no optimisation, because compiling dominates a test."""
  return (
    f"--xla_force_host_platform_device_count={num_devices}"
    " --xla_backend_optimization_level=0"
  )


def environment(num_devices):
  """The variables of a process with so many devices."""
  return os.environ | {"XLA_FLAGS": xla_flags(num_devices)}


def command(data, workdir, *overrides):
  """Trains `tests/tiny.py`; to be run at `ROOT`."""
  return [
    sys.executable,
    "-m",
    "flairhub_jax",
    "train",
    "--config=tests/tiny.py",
    f"--workdir={workdir}",
    f"--config.data.path={data}",
    *overrides,
  ]


def losses(workdir):
  """The loss of each logged step."""
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  return [r["loss"] for r in records if r["kind"] == "train"]
