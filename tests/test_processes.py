import argparse

import pytest

from flairhub_jax import processes
from flairhub_jax.errors import InputError

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "2"}
TORCHRUN = {
  "MASTER_ADDR": "node1",
  "MASTER_PORT": "29500",
  "WORLD_SIZE": "4",
  "RANK": "3",
}


def describe(environment=(), coordinator=None, num_processes=None, number=None):
  args = argparse.Namespace(
    coordinator=coordinator, num_processes=num_processes, process_id=number
  )
  return processes._describe(args, dict(environment))


def test_one_process_joins_nobody():
  assert describe() is None
  assert describe({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"}) is None
  assert describe(TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"}) is None
  assert describe({"TPU_WORKER_HOSTNAMES": "host0"}) is None


def test_clusters_are_recognised():
  assert describe(SLURM) == {}
  # One task per node takes all devices of the node.
  one_each = {"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
  devices = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
  assert describe(SLURM | one_each | devices) == {
    "local_device_ids": [0, 1, 2, 3]
  }
  assert describe(SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2"} | devices) == {}
  assert describe({"TPU_WORKER_HOSTNAMES": "host0,host1"}) == {}
  expected = {
    "coordinator_address": "node1:29500",
    "num_processes": 4,
    "process_id": 3,
  }
  assert describe(TORCHRUN) == expected
  local = {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}
  assert describe(TORCHRUN | local) == expected | {"local_device_ids": [1]}


def test_flags_win_over_the_cluster():
  assert describe(SLURM, "host:1", 2, 0) == {
    "coordinator_address": "host:1",
    "num_processes": 2,
    "process_id": 0,
  }


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (("host:1", None, 0), "all three"),
    (("host", 2, 0), "HOST:PORT"),
    (("host:1", 2, 2), "0 to 1"),
  ],
)
def test_bad_flags_are_refused(flags, message):
  with pytest.raises(InputError, match=message):
    describe({}, *flags)


def test_incomplete_torchrun_variables_are_refused():
  with pytest.raises(InputError, match="no MASTER_PORT"):
    describe({k: v for k, v in TORCHRUN.items() if k != "MASTER_PORT"})
