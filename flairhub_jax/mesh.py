"""Devices: a mesh of `data` and `fsdp`, and what lies where on it.

A batch is split over both axes. Parameters and what the optimiser keeps are
split over `fsdp` where they are large; a step gathers them while it needs them
(fully sharded data parallelism, Zhao et al. 2023, arXiv:2304.11277).
"""

import ctypes
import gc
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flairhub_jax.errors import InputError

_AXES = ("data", "fsdp")
# Numbers; smaller arrays are not worth a transfer of their own.
_LEAST_SPLIT = 2**14


def build_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
  """Returns a mesh of all devices present, over all processes.

  Args:
    data: devices along the axis that only batches are split over; -1: as many
      as the other axis leaves.
    fsdp: devices that share the parameters; -1 likewise.

  Raises:
    InputError: the axes do not make up the number of devices.
  """
  count, sizes = jax.device_count(), [data, fsdp]
  if sizes.count(-1) == 1:
    other = max(sizes)
    if other > 0 and count % other == 0:
      sizes[sizes.index(-1)] = count // other
  if min(sizes) < 1 or math.prod(sizes) != count:
    raise InputError(
      "config.mesh",
      f"data x fsdp = {count}, the number of devices (-1, once: what is left)",
      f"{data} x {fsdp}",
    )
  return jax.make_mesh(
    tuple(sizes), _AXES, axis_types=(AxisType.Auto,) * len(_AXES)
  )


def describe(mesh: Mesh) -> str:
  """Says which devices there are, in words for a log."""
  axes = " x ".join(f"{size} {axis}" for axis, size in mesh.shape.items())
  kind = jax.devices()[0].device_kind
  return f"{axes} devices ({kind}), {jax.process_count()} process(es)"


def compiler_options(deterministic: bool) -> dict[str, bool]:
  """Options of `jax.jit` by which a program computes the same each time.

  Other devices than GPUs need none. The flag forbids atomic sums and the choice
  of kernels by timing, which would differ between processes.
  """
  if deterministic and jax.default_backend() == "gpu":
    return {"xla_gpu_deterministic_ops": True}
  return {}


def describe_numbers(
  mesh: Mesh, *, dtype: str, precision: str, deterministic: bool
) -> str:
  """Says how exactly devices compute, in words for a log."""
  platform = mesh.devices.flat[0].platform
  if platform != "gpu":
    again = f"the same each time ({platform})"
  elif deterministic:
    again = "the same each time (config.deterministic)"
  else:
    again = "not the same each time (config.deterministic=False)"
  return f"products in {dtype} at {precision} precision; numbers are {again}"


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
  """Every device holds its share of the leading axis."""
  return NamedSharding(mesh, PartitionSpec(_AXES))


def split_state(state: Any, mesh: Mesh) -> Any:
  """Where each array of a training state lies.

  Large ones are split over `fsdp` along their longest axis that divides
  evenly. The rule looks at nothing but shapes, so that a parameter, its
  average and its moments lie alike.

  Args:
    state: arrays or their shapes.
    mesh: of `build_mesh`.
  """
  parts = mesh.shape["fsdp"]

  def place(leaf):
    axes = [i for i, size in enumerate(leaf.shape) if size % parts == 0]
    if parts == 1 or leaf.size < _LEAST_SPLIT or not axes:
      return replicated(mesh)
    longest = max(axes, key=lambda i: leaf.shape[i])
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))

  return jax.tree.map(place, state)


def place_state(state: Any, shardings: Any) -> Any:
  """Puts a state that every process holds whole where `shardings` say.

  Each process copies what its devices hold from its own. `jax.device_put` would
  send everything to all processes, to see whether they hold the same.
  """

  def place(leaf, sharding):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      numbers = place(jax.random.key_data(leaf), sharding)
      return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(leaf))
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(
      # A copy: a step writes into the arrays of its state.
      whole.shape,
      sharding,
      lambda index: np.array(whole[index]),
    )

  return jax.tree.map(place, state, shardings)


def local_batch_size(global_batch_size: int, num_parts: int = 1) -> int:
  """Returns how many patches of a batch this process reads.

  Args:
    global_batch_size: patches over all devices.
    num_parts: into how many parts each device cuts its share.

  Raises:
    InputError: the devices cannot share the batch evenly.
  """
  divisor = jax.device_count() * num_parts
  if global_batch_size < 1 or global_batch_size % divisor:
    parts = f" x {num_parts} parts each" if num_parts > 1 else ""
    raise InputError(
      "config.data.batch_size",
      f"a multiple of {divisor} ({jax.device_count()} devices{parts})",
      global_batch_size,
    )
  return global_batch_size // jax.process_count()


def place_batch(batch: Mapping[str, Any], mesh: Mesh) -> Any:
  """Puts a process's share of a batch on its devices.

  The number of a patch stays on the host: only reports need it.
  """
  sharding = split_batch(mesh)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    {key: value for key, value in batch.items() if key != "patch"},
  )


def place_shapes(tree: Any, shardings: Any) -> Any:
  """Shapes of arrays as they will lie on the devices.

  Args:
    tree: arrays or their shapes.
    shardings: one for all, or a tree of one for each.
  """
  if isinstance(shardings, NamedSharding):
    shardings = jax.tree.map(lambda _: shardings, tree)
  return jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=sharding
    ),
    tree,
    shardings,
  )


def batch_shapes(
  example: Mapping[str, Any], global_batch_size: int, mesh: Mesh
) -> Any:
  """Shapes of a whole batch on the devices.

  Args:
    example: a batch of any size on the host, its series as long as wanted.
    global_batch_size: patches over all devices.
    mesh: of `build_mesh`.
  """
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((global_batch_size, *x.shape[1:]), x.dtype),
    {key: value for key, value in example.items() if key != "patch"},
  )
  return place_shapes(shapes, split_batch(mesh))


def tune_cpu_process() -> None:
  """Makes a process keep memory where giving it back costs time.

  Python looks for cycles among objects 70 times less often: tracing a network
  makes millions of objects and hardly a cycle, and takes a sixth less time.

  On CPUs glibc keeps what XLA frees: XLA takes its scratch memory anew each
  step, and page faults on returned memory cost more than the arithmetic. Must
  run before the first large array.
  """
  gc.set_threshold(50_000, 20, 20)
  if jax.default_backend() != "cpu":
    return
  try:
    libc = ctypes.CDLL("libc.so.6")
  except OSError:
    return  # another C library
  mmap_max, trim_threshold = -4, -1
  libc.mallopt(mmap_max, 0)
  libc.mallopt(trim_threshold, -1)
