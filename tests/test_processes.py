import argparse

import pytest

from flairhub_jax import processes
from flairhub_jax.errors import InputError

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "2"}


def describe(environment=(), coordinator=None, num_processes=None, number=None):
  args = argparse.Namespace(
    coordinator=coordinator, num_processes=num_processes, process_id=number
  )
  return processes._describe(args, dict(environment))


@pytest.mark.parametrize(
  "environment",
  [
    {},
    {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"},
    # The script of a job of four tasks, which has not started them yet.
    {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
    {"OMPI_COMM_WORLD_SIZE": "1"},
    {"TPU_WORKER_HOSTNAMES": "host0"},
    # A pod of its own, or without the package that asks for the others.
    {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
    {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"},
  ],
)
def test_one_process_joins_nobody(environment):
  assert describe(environment) is None


def test_clusters_are_asked_by_jax(monkeypatch):
  assert describe(SLURM) == {}
  assert describe({"OMPI_COMM_WORLD_SIZE": "8"}) == {}
  monkeypatch.setattr(
    processes.cloud_tpu_cluster, "running_in_cloud_tpu_vm", True
  )
  for name in ("TPU_SKIP_MDS_QUERY", "MEGASCALE_NUM_SLICES"):
    monkeypatch.setenv(name, "1")
  monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "host0")
  assert describe() is None
  monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "host0,host1")
  assert describe() == {}
  monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
  pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"}
  assert describe(pod) == {}


def test_a_lone_task_of_a_node_takes_all_its_devices():
  def alone(tasks):
    return processes._is_alone_on_its_node({"SLURM_STEP_TASKS_PER_NODE": tasks})

  assert alone("1(x2)") and alone("1") and alone("1(x2),1")
  assert not (alone("2") or alone("4(x2),1") or alone("1,2"))
  assert processes._is_alone_on_its_node({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"})
  assert not processes._is_alone_on_its_node({})


def test_flags_win_over_the_cluster():
  assert describe(SLURM, "host:1", 2, 0) == {
    "coordinator_address": "host:1",
    "num_processes": 2,
    "process_id": 0,
    "cluster_detection_method": "deactivate",
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
