"""Several processes of one training run, on one host or on many."""

import argparse
import importlib.util
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed
from jax._src.clusters import cloud_tpu_cluster
from jax.experimental import multihost_utils

from flairhub_jax import faults
from flairhub_jax.errors import (
  InputError,
  InputErrors,
  RunError,
  StoppedEarly,
)

T = TypeVar("T")

# At the end processes wait for each other, while the first one may be writing.
_LAST_WAIT = 3600
# Bytes by which `main_process_first` hands an exception on, at most.
_MESSAGE_SIZE = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags for clusters that are not recognised."""
  parser.add_argument(
    "--coordinator",
    metavar="HOST:PORT",
    help="where the first of several processes listens; only needed where"
    " neither SLURM, Open MPI, Kubernetes nor a TPU pod says so",
  )
  parser.add_argument(
    "--num-processes", type=int, metavar="N", help="with --coordinator"
  )
  parser.add_argument(
    "--process-id", type=int, metavar="I", help="with --coordinator; from 0"
  )


def initialize_distributed(args: argparse.Namespace) -> None:
  """Joins the other processes of this job, if there are any.

  Must run before anything asks for a device; a second call does nothing. From
  then on a fault of one process ends them all (`faults`).

  Args:
    args: with the flags of `add_arguments`.

  Raises:
    InputError: an incomplete or impossible description of the processes.
  """
  if jax.distributed.is_initialized():
    return
  cluster = _describe(args, os.environ)
  if cluster is None:
    return
  faults.prepare()
  try:
    jax.distributed.initialize(
      **cluster,
      heartbeat_timeout_seconds=faults.HEARTBEAT_TIMEOUT,
      shutdown_timeout_seconds=_LAST_WAIT,
    )
  except ValueError as error:
    raise InputError(
      "--coordinator, --num-processes, --process-id",
      "all three, where JAX cannot tell them from the environment",
      str(error),
    ) from error
  if not cluster and _is_alone_on_its_node(os.environ):
    # JAX would give it the first device only.
    jax.config.update("jax_cuda_visible_devices", "all")
    jax.config.update("jax_rocm_visible_devices", "all")
  job = distributed.global_state
  faults.watch(job.client, job.process_id, job.num_processes)


def _describe(
  args: argparse.Namespace, environment: Mapping[str, str]
) -> dict[str, Any] | None:
  """Arguments of `jax.distributed.initialize`; None: this is the only one.

  Without any JAX asks the cluster. Whether there is one to ask must be sure: a
  process that waits for others where there are none would wait in vain.
  """
  flags = (args.coordinator, args.num_processes, args.process_id)
  if any(flag is not None for flag in flags):
    return _from_flags(*flags)
  tasks = [
    environment.get(name, "1")
    # Of the step of SLURM, not of its job; of mpirun.
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
  ]
  is_cluster = (
    max(map(int, tasks)) > 1 or _is_kubernetes_job(environment) or _is_tpu_pod()
  )
  return {} if is_cluster else None


def _from_flags(coordinator, num_processes, process_id):
  if coordinator is None or num_processes is None or process_id is None:
    raise InputError(
      "--coordinator, --num-processes, --process-id",
      "all three",
      f"{coordinator}, {num_processes}, {process_id}",
    )
  if not re.fullmatch(r".+:\d+", coordinator):
    raise InputError("--coordinator", "HOST:PORT", coordinator)
  if not 0 <= process_id < num_processes:
    raise InputError(
      "--process-id",
      f"0 to {num_processes - 1}, of --num-processes",
      process_id,
    )
  return {
    "coordinator_address": coordinator,
    "num_processes": num_processes,
    "process_id": process_id,
    # The flags say it all: every process sees all devices of its host.
    "cluster_detection_method": "deactivate",
  }


def _is_kubernetes_job(environment):
  """An indexed job, with the package by which JAX asks for the others."""
  return (
    "KUBERNETES_SERVICE_HOST" in environment
    and "JOB_COMPLETION_INDEX" in environment
    and importlib.util.find_spec("kubernetes") is not None
  )


def _is_tpu_pod():
  kinds = (cloud_tpu_cluster.GkeTpuCluster, cloud_tpu_cluster.GceTpuCluster)
  return any(c.is_env_present() and c.get_process_count() > 1 for c in kinds)


def _is_alone_on_its_node(environment):
  # "4(x2),1": tasks on each node.
  slurm = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
  return bool(
    re.fullmatch(r"1(\(x\d+\))?(,1(\(x\d+\))?)*", slurm)
    or environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
  )


def is_first() -> bool:
  """Whether this is the process that writes common files."""
  return jax.process_index() == 0


def main_process_first(action: Callable[[], T]) -> T:
  """Calls `action` in the first process, then in the others.

  The others can read files that the first has written. If it fails, they fail
  with the same message and exit code.

  Raises:
    Exception: of `action`, in the first process; the others raise the
      InputError, StoppedEarly or RunError with the same exit code.
  """
  if jax.process_count() == 1:
    return action()
  result, raised, message = None, None, b""
  if is_first():
    try:
      result = action()
    # Any exception, as the others wait for this process.
    except Exception as error:
      raised, message = error, _encode(error)
  data = np.zeros(_MESSAGE_SIZE, np.uint8)
  data[: len(message)] = np.frombuffer(message, np.uint8)
  message = bytes(multihost_utils.broadcast_one_to_all(data)).rstrip(b"\0")
  if raised is not None:
    raise raised
  if is_first():
    return result
  if message:
    raise _decode(message)
  return action()


def _encode(error: Exception) -> bytes:
  kind, text = "run", str(error)
  if isinstance(error, InputError):
    kind = "input"
  elif isinstance(error, StoppedEarly):
    kind = "stopped"
  elif not isinstance(error, (RunError, OSError)):
    text = f"{type(error).__name__}: {text}"
  while len(message := json.dumps([kind, text]).encode()) > _MESSAGE_SIZE:
    text = text[: len(text) // 2]
  return message


def _decode(message: bytes) -> Exception:
  kind, text = json.loads(message)
  if kind == "input":
    return InputErrors([text])
  return StoppedEarly(text) if kind == "stopped" else RunError(text)


def any_of(flag: bool) -> bool:
  """Whether `flag` is True in any process; a collective call."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def wait_for_all(name: str, seconds: int) -> bool:
  """Waits for all processes; returns whether they arrive in time.

  Args:
    name: of the barrier; each name can be used once.
    seconds: timeout.
  """
  if jax.process_count() == 1:
    return True
  try:
    distributed.global_state.client.wait_at_barrier(name, seconds * 1000)
  except jax.errors.JaxRuntimeError:
    return False
  return True


def total(tree: Any) -> Any:
  """Sums host arrays over the processes; a collective call."""
  if jax.process_count() == 1:
    return tree
  gathered = multihost_utils.process_allgather(tree)
  return jax.tree.map(lambda x: np.asarray(x).sum(0, dtype=x.dtype), gathered)
