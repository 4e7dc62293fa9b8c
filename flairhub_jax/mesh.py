"""The device mesh (`data` x `fsdp`) and the shardings of state and batch.

A batch is split over both axes. Large parameters and their optimiser state are
split over `fsdp`; a step gathers parameters when it needs them (fully sharded
data parallelism, Zhao et al. 2023, arXiv:2304.11277).
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
# Elements; smaller arrays are replicated.
_LEAST_SPLIT = 2**14


def build_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
  """Returns a mesh of all devices of all processes.

  Args:
    data: devices along the axis that splits batches only; -1: all devices that
      the other axis leaves.
    fsdp: devices that split the parameters; -1 likewise.

  Raises:
    InputError: the product of the axes is not the number of devices.
  """
  count, sizes = jax.device_count(), [data, fsdp]
  if sizes.count(-1) == 1:
    other = max(sizes)
    if other > 0 and count % other == 0:
      sizes[sizes.index(-1)] = count // other
  if min(sizes) < 1 or math.prod(sizes) != count:
    raise InputError(
      "config.mesh",
      f"data x fsdp = {count}, the number of devices (-1, once: the rest)",
      f"{data} x {fsdp}",
    )
  return jax.make_mesh(
    tuple(sizes), _AXES, axis_types=(AxisType.Auto,) * len(_AXES)
  )


def build_local_mesh() -> Mesh:
  """Returns a mesh of the devices of this process, for work of its own."""
  devices = jax.local_devices()
  types = (AxisType.Auto,) * len(_AXES)
  shape = (len(devices), 1)
  return jax.make_mesh(shape, _AXES, axis_types=types, devices=devices)


def describe(mesh: Mesh) -> str:
  """Describes the devices, for the log."""
  axes = " x ".join(f"{size} {axis}" for axis, size in mesh.shape.items())
  kind = jax.devices()[0].device_kind
  return f"{axes} devices ({kind}), {jax.process_count()} process(es)"


def compiler_options(deterministic: bool) -> dict[str, bool]:
  """Options of `jax.jit` for bitwise reproducible programs.

  Only GPUs need any. The flag disables atomic sums and autotuning, which would
  choose different kernels in different processes.
  """
  if deterministic and jax.default_backend() == "gpu":
    return {"xla_gpu_deterministic_ops": True}
  return {}


def describe_numbers(
  mesh: Mesh, *, dtype: str, precision: str, deterministic: bool
) -> str:
  """Describes dtype, precision and reproducibility, for the log."""
  platform = mesh.devices.flat[0].platform
  if platform != "gpu":
    reproducible = f"bitwise reproducible ({platform})"
  elif deterministic:
    reproducible = "bitwise reproducible (config.deterministic)"
  else:
    reproducible = "not bitwise reproducible (config.deterministic=False)"
  return f"products in {dtype} at {precision} precision; {reproducible}"


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
  """Every device holds a shard of the leading axis."""
  return NamedSharding(mesh, PartitionSpec(_AXES))


def split_state(state: Any, mesh: Mesh) -> Any:
  """The sharding of each array of a training state.

  Large arrays are split over `fsdp` along their longest axis that divides
  evenly. The rule depends on shapes alone, so that a parameter, its average and
  its moments have the same sharding.

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
  """Places a state, of which every process has a full copy, on the devices.

  Each process copies the shards of its devices from its own copy.
  `jax.device_put` would send all values to all processes to compare them.
  """

  def place(leaf, sharding):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      numbers = place(jax.random.key_data(leaf), sharding)
      return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(leaf))
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(
      # A copy: a step donates its state.
      whole.shape,
      sharding,
      lambda index: np.array(whole[index]),
    )

  return jax.tree.map(place, state, shardings)


def local_batch_size(global_batch_size: int, num_parts: int = 1) -> int:
  """Returns the number of patches of a batch that this process reads.

  Args:
    global_batch_size: patches over all devices.
    num_parts: parts into which each device splits its shard.

  Raises:
    InputError: the batch does not divide evenly over devices and parts.
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
  """Places this process's part of a batch on its devices.

  Patch indices stay on the host: only reports need them.
  """
  sharding = split_batch(mesh)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    {key: value for key, value in batch.items() if key != "patch"},
  )


def place_shapes(tree: Any, shardings: Any) -> Any:
  """Shapes of arrays with their shardings.

  Args:
    tree: arrays or their shapes.
    shardings: one for all, or a tree of shardings.
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
  """Shapes of a global batch on the devices.

  Args:
    example: a batch of any size on the host, with series of the wanted length.
    global_batch_size: patches over all devices.
    mesh: of `build_mesh`.
  """
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((global_batch_size, *x.shape[1:]), x.dtype),
    {key: value for key, value in example.items() if key != "patch"},
  )
  return place_shapes(shapes, split_batch(mesh))


def tune_cpu_process() -> None:
  """Tunes garbage collection and, on CPUs, memory allocation.

  The garbage collector runs 70 times less often: tracing a network creates
  millions of objects and hardly any reference cycle, and takes a sixth less
  time.

  On CPUs glibc does not return freed memory to the system: XLA allocates its
  scratch memory for each step, and page faults would cost more than the
  arithmetic. Must run before the first large array.
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
