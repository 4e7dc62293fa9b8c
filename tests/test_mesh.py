import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax import mesh
from flairhub_jax.errors import InputError
from tests.training import runs

# Tests run on two devices.


@pytest.mark.parametrize(
  ("data", "fsdp", "shape"),
  [(-1, 1, (2, 1)), (1, -1, (1, 2)), (2, 1, (2, 1)), (-1, 2, (1, 2))],
)
def test_an_axis_takes_what_is_left(data, fsdp, shape):
  assert mesh.build_mesh(data, fsdp).devices.shape == shape


@pytest.mark.parametrize(
  ("data", "fsdp"), [(2, 2), (-1, 3), (-1, -1), (0, 2), (-2, -1), (1, 1)]
)
def test_a_mesh_of_other_devices_is_refused(data, fsdp):
  with pytest.raises(InputError, match=f"fsdp = 2, .* {data} x {fsdp}"):
    mesh.build_mesh(data, fsdp)


def test_large_arrays_are_split_where_they_divide():
  devices = mesh.build_mesh(1, 2)
  state = {
    "large": jnp.zeros((3, 64, 128)),
    "odd": jnp.zeros((129, 129)),
    "small": jnp.zeros(8),
    "key": jax.random.key(1),
  }
  shardings = mesh.split_state(state, devices)
  assert shardings["large"].spec == jax.P(None, None, "fsdp")
  for name in ("odd", "small", "key"):
    assert shardings[name].is_fully_replicated
  placed = mesh.place_state(state, shardings)
  assert placed["large"].addressable_shards[0].data.shape == (3, 64, 64)
  np.testing.assert_array_equal(
    jax.random.key_data(placed["key"]), jax.random.key_data(state["key"])
  )
  shardings = mesh.split_state(state, mesh.build_mesh(2, 1))
  assert all(s.is_fully_replicated for s in jax.tree.leaves(shardings))


def test_a_batch_that_devices_cannot_share_is_refused():
  assert mesh.local_batch_size(8, 4) == 8
  with pytest.raises(InputError, match=r"multiple of 2 .2 devices.*found 3"):
    mesh.local_batch_size(3)
  with pytest.raises(InputError, match=r"multiple of 8 .*4 parts.*found 12"):
    mesh.local_batch_size(12, 4)


EIGHT_DEVICES = """
import jax, numpy as np
from flairhub_jax import mesh

state = {
  "large": np.arange(2.0**16, dtype=np.float32).reshape(64, 1024),
  "half": jax.numpy.arange(2**15, dtype="bfloat16"),
  "step": np.int32(7),
  "key": jax.random.key(1),
}
devices = mesh.build_mesh(2, 4)
placed = mesh.place_state(state, mesh.split_state(state, devices))
# A second time, as after a validation: from what lies on the devices.
placed = mesh.place_state(placed, mesh.split_state(state, devices))
shards = placed["large"].addressable_shards
assert {s.data.shape for s in shards} == {(64, 256)} and len(shards) == 8
for name, leaf in state.items():
  assert placed[name].dtype == leaf.dtype
  if name == "key":
    leaf, placed[name] = map(jax.random.key_data, (leaf, placed[name]))
  assert placed[name].is_fully_replicated == (name in ("step", "key"))
  np.testing.assert_array_equal(placed[name], leaf)
"""


def test_a_state_lies_as_it_should_on_eight_devices():
  subprocess.run(
    [sys.executable, "-c", EIGHT_DEVICES],
    env=runs.environment(8),
    cwd=runs.ROOT,
    check=True,
  )


def test_log_describes_dtype_and_precision(monkeypatch):
  devices = mesh.build_mesh()
  how = dict(dtype="float32", precision="highest", deterministic=False)
  line = mesh.describe_numbers(devices, **how)
  assert "float32 at highest precision" in line
  assert "bitwise reproducible (cpu)" in line
  assert mesh.compiler_options(True) == {}
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert mesh.compiler_options(False) == {}
  options = mesh.compiler_options(True)
  # Every backend of XLA knows the names of its options.
  assert jax.jit(lambda x: x + 1, compiler_options=options)(1.0) == 2
