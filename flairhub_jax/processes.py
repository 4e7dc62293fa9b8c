"""Several processes that train together, on one host or on many."""

import argparse
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from flairhub_jax.errors import InputError, InputErrors

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags for clusters that are not recognised."""
  parser.add_argument(
    "--coordinator",
    metavar="HOST:PORT",
    help="where the first of several processes listens; only needed where"
    " neither SLURM, torchrun nor a TPU pod says so",
  )
  parser.add_argument(
    "--num-processes", type=int, metavar="N", help="with --coordinator"
  )
  parser.add_argument(
    "--process-id", type=int, metavar="I", help="with --coordinator; from 0"
  )


def join(args: argparse.Namespace) -> None:
  """Joins the other processes of this training, if there are any.

  Must run before anything asks for a device; a second call does nothing.

  Raises:
    InputError: an incomplete or impossible description of the processes.
  """
  if jax.distributed.is_initialized():
    return
  cluster = _describe(args, os.environ)
  if cluster is not None:
    jax.distributed.initialize(**cluster)


def _describe(
  args: argparse.Namespace, environment: Mapping[str, str]
) -> dict[str, object] | None:
  """Arguments of `jax.distributed.initialize`; None: this is the only one."""
  flags = (args.coordinator, args.num_processes, args.process_id)
  if any(flag is not None for flag in flags):
    return _from_flags(*flags)
  if "WORLD_SIZE" in environment and "RANK" in environment:
    return _from_torchrun(environment)
  if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
    return _from_slurm(environment)
  if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
    return {}
  return None


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
  }


def _from_torchrun(environment):
  names = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
  missing = [name for name in names if name not in environment]
  if missing:
    raise InputError("environment", ", ".join(names), f"no {missing[0]}")
  num_processes = int(environment["WORLD_SIZE"])
  if num_processes == 1:
    return None
  cluster = _from_flags(
    f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}",
    num_processes,
    int(environment["RANK"]),
  )
  if int(environment.get("LOCAL_WORLD_SIZE", "1")) > 1:
    cluster["local_device_ids"] = [int(environment["LOCAL_RANK"])]
  return cluster


def _from_slurm(environment):
  # "4(x2),1": tasks on each node. JAX would give a lone task of a node the
  # first of its devices only.
  tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
  devices = environment.get("CUDA_VISIBLE_DEVICES", "")
  if re.fullmatch(r"1(\(x\d+\))?", tasks) and devices:
    return {"local_device_ids": list(range(len(devices.split(","))))}
  return {}


def is_first() -> bool:
  """Whether this process writes what only one should."""
  return jax.process_index() == 0


def first_alone(action: Callable[[], T]) -> T:
  """Calls `action` in the first process, then in the others.

  They find on disk what the first has written. Where it fails, they fail with
  its message.

  Raises:
    InputError, OSError: as `action` raises it; the others' is an InputError.
  """
  if jax.process_count() == 1:
    return action()
  result, fault = None, b""
  if is_first():
    try:
      result = action()
    except (InputError, OSError) as error:
      fault = str(error).encode()[:1000]
      raised = error
  text = np.zeros(1000, np.uint8)
  text[: len(fault)] = np.frombuffer(fault, np.uint8)
  text = bytes(multihost_utils.broadcast_one_to_all(text)).rstrip(b"\0")
  if is_first():
    if fault:
      raise raised
    return result
  if text:
    raise InputErrors([text.decode(errors="replace")])
  return action()


def any_of(flag: bool) -> bool:
  """Whether `flag` holds in any process; all must ask together."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def total(tree: Any) -> Any:
  """Sums each array of the host over the processes; all must ask together."""
  if jax.process_count() == 1:
    return tree
  every = multihost_utils.process_allgather(tree)
  return jax.tree.map(lambda x: np.asarray(x).sum(0, dtype=x.dtype), every)
