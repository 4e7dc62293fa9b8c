"""Devices: one `data` axis, parameters replicated, batches split."""

import ctypes
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flairhub_jax.errors import InputError


def build_mesh() -> Mesh:
  """Returns a mesh of all devices present, over all processes."""
  return jax.make_mesh(
    (jax.device_count(),), ("data",), axis_types=(AxisType.Auto,)
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
  """Every device holds its share of the leading axis."""
  return NamedSharding(mesh, PartitionSpec("data"))


def local_batch_size(global_batch_size: int) -> int:
  """Returns how many patches of a batch this process reads.

  Raises:
    InputError: the devices cannot share the batch evenly.
  """
  if global_batch_size < 1 or global_batch_size % jax.device_count():
    raise InputError(
      "config.data.batch_size",
      f"a multiple of the {jax.device_count()} devices",
      global_batch_size,
    )
  return global_batch_size // jax.process_count()


def place_batch(batch: Any, mesh: Mesh) -> Any:
  """Puts a process's share of a batch on its devices.

  The number of a patch stays on the host: only reports need it.
  """
  sharding = split_batch(mesh)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    {key: value for key, value in batch.items() if key != "patch"},
  )


def keep_cpu_memory() -> None:
  """Makes glibc keep what XLA frees; matters on CPUs, elsewhere harmless.

  XLA takes its scratch memory anew each step, and page faults on returned
  memory cost more than the arithmetic. Must run before the first large array.
  """
  if jax.default_backend() != "cpu":
    return
  try:
    libc = ctypes.CDLL("libc.so.6")
  except OSError:
    return  # another C library
  mmap_max, trim_threshold = -4, -1
  libc.mallopt(mmap_max, 0)
  libc.mallopt(trim_threshold, -1)
