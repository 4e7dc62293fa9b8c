"""Two processes that train together, of which one fails."""

import os
import socket
import subprocess
import time

import pytest

from tests.training import runs

pytestmark = pytest.mark.slow

# What goes wrong in one process, before the command begins.
FULL_DISK = """
import collections, shutil
Usage = collections.namedtuple("Usage", "total used free")
shutil.disk_usage = lambda path: Usage(1, 1, 0)
"""
# Writes fail below Python: larger files than this cannot be made.
SMALL_FILES = """
import resource
limit = resource.RLIMIT_FSIZE
resource.setrlimit(limit, (25000, resource.getrlimit(limit)[1]))
"""
# A batch of this process cannot be read, or does not fit.
BROKEN_RECORD = """
from flairhub_jax.data import pipeline
from flairhub_jax.errors import InputError
def read(self, index):
  raise InputError("SENTINEL2_TS-00000", "a record", "garbage")
pipeline.PatchReader.__getitem__ = read
"""
OUT_OF_MEMORY = """
from flairhub_jax import mesh
def place(batch, devices):
  raise MemoryError("no memory for a batch")
mesh.place_batch = place
"""
# `jax.device_put` compares values that go to the devices of all processes.
NOTHING_IS_COMPARED = """
import numpy as np
from jax.experimental import multihost_utils
assert_equal = multihost_utils.assert_equal
def compare(values, *args):
  # A barrier compares one number.
  assert np.size(values) == 1, "arrays are sent to be compared"
  assert_equal(values, *args)
multihost_utils.assert_equal = compare
"""
# What this process reads of a checkpoint lies on a disk that failed.
UNREADABLE_CHECKPOINT = """
import functools
from flairhub_jax import checkpoint, processes
from flairhub_jax.errors import InputError
def restore(self, step, state, shardings):
  raise InputError(step, "a checkpoint", "an error of the disk")
checkpoint.Checkpoints.restore = restore
wait_for_all = processes.wait_for_all
processes.wait_for_all = lambda name, seconds: wait_for_all(name, 3)
"""
RUN = """
import sys
from flairhub_jax.__main__ import main
sys.exit(main())
"""


def start(converted, workdir, *flags, faults=("", "")):
  """Trains on the time series alone, the network that compiles fastest."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  started = []
  for i, fault in enumerate(faults):
    command = runs.command(
      converted,
      workdir,
      "--config.data.modalities=('SENTINEL2_TS',)",
      "--config.data.tasks=('ALL_LABEL-LPIS',)",
      "--config.train.num_steps=8",
      "--config.train.validate_every=8",
      f"--coordinator=127.0.0.1:{port}",
      "--num-processes=2",
      f"--process-id={i}",
      *flags,
    )
    started.append(
      subprocess.Popen(
        [command[0], "-c", fault + RUN, *command[3:]],
        cwd=runs.ROOT,
        env=runs.environment(1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
  return started


def finish(started, timeout=120):
  """Exit codes, and the last line of each."""
  outputs = []
  try:
    for process in started:
      outputs.append(process.communicate(timeout=timeout)[1])
  finally:
    for process in started:
      process.kill()
  assert not any("Traceback" in text for text in outputs), outputs
  lines = [(text.strip().splitlines() or [""])[-1] for text in outputs]
  return [process.returncode for process in started], lines


def step_of(workdir):
  path = workdir / "metrics.jsonl"
  return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize(
  ("fault", "which", "said"),
  [
    (FULL_DISK, 1, "a checkpoint cannot be written (step 2 takes"),
    (SMALL_FILES, 0, "a checkpoint cannot be written ("),
    (SMALL_FILES, 1, "a checkpoint cannot be written ("),
    (OUT_OF_MEMORY, 1, "out of memory: no memory for a batch"),
    (BROKEN_RECORD, 1, "SENTINEL2_TS-00000: expected a record, found garbage"),
  ],
)
def test_a_fault_in_one_process_ends_both(
  converted, tmp_path, fault, which, said
):
  faults = ["", ""]
  faults[which] = fault
  codes, lines = finish(
    start(converted, tmp_path / "run", "--config.mesh.fsdp=2", faults=faults)
  )
  assert codes == [2 if fault == BROKEN_RECORD else 1] * 2
  assert lines[which].startswith("flairhub train: ") and said in lines[which]
  other = lines[1 - which]
  assert other.startswith(f"flairhub: process {which} on ") and said in other


@pytest.mark.parametrize("which", [0, 1])
def test_a_kill_of_one_ends_the_other_and_frees_the_run(
  converted, tmp_path, which
):
  workdir = tmp_path / "run"
  more = ("--config.train.num_steps=100000", "--config.train.save_every=3")
  started = start(converted, workdir, *more)
  while step_of(workdir) < 5:
    assert all(p.poll() is None for p in started), finish(started)
    time.sleep(0.01)

  # Meanwhile nobody else may write there.
  before = (workdir / "config.json").stat().st_mtime_ns
  other = subprocess.run(
    runs.command(
      converted,
      workdir,
      "--config.data.modalities=('SENTINEL2_TS',)",
      "--config.data.tasks=('ALL_LABEL-LPIS',)",
      "--config.train.validate_every=8",
      *more,
    ),
    cwd=runs.ROOT,
    env=runs.environment(1),
    capture_output=True,
    text=True,
  )
  assert other.returncode == 2
  assert f"{workdir}: expected no other training in this folder" in other.stderr
  assert f"found process {started[0].pid} on " in other.stderr
  assert len(other.stderr.splitlines()) == 1
  assert (workdir / "config.json").stat().st_mtime_ns == before

  started[which].kill()
  begin = time.monotonic()
  codes, lines = finish(started)
  assert time.monotonic() - begin < 60
  assert codes[which] == -9 and codes[1 - which] == 1
  assert lines[1 - which] == (
    f"flairhub: process {which} was lost (killed, or its host is unreachable)"
  )
  kept = [f for f in (workdir / "checkpoints").iterdir() if f.name.isdigit()]
  assert kept and step_of(workdir) >= 5


def test_a_checkpoint_that_none_can_read_is_set_aside_by_both(
  converted, tmp_path
):
  workdir = tmp_path / "run"
  keep = "--config.train.keep_latest=2"
  faults = (NOTHING_IS_COMPARED, NOTHING_IS_COMPARED)
  assert finish(start(converted, workdir, keep, faults=faults))[0] == [0, 0]

  codes, lines = finish(
    start(converted, workdir, keep, faults=("", UNREADABLE_CHECKPOINT))
  )
  assert codes == [2, 2]
  assert lines[1].endswith(
    "8: expected a checkpoint, found an error of the disk"
  )
  assert lines[0].endswith(lines[1].removeprefix("flairhub train: "))
  assert (workdir / "checkpoints/8").is_dir()

  for path in (workdir / "checkpoints/8/state").rglob("*"):
    if path.is_file():
      os.truncate(path, path.stat().st_size // 2)
  assert finish(start(converted, workdir, keep))[0] == [0, 0]
  assert "from step 6" in (workdir / "log.txt").read_text()
  assert (workdir / "checkpoints_broken/8").is_dir()
  assert (workdir / "checkpoints/8").is_dir()
