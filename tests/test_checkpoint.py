import os
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax import checkpoint, mesh
from flairhub_jax.errors import InputError, RunError


def state(value, size=3):
  return {
    "params": {"layer": jnp.full(size, float(value))},
    "batch_stats": {},
    "rng": jax.random.key(value),
  }


@pytest.fixture
def everywhere():
  return mesh.replicated(mesh.build_mesh())


@pytest.fixture
def shardings():
  return mesh.split_state(state(0), mesh.build_mesh())


@pytest.fixture
def saved(tmp_path):
  checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints")
  scores = {1: None, 2: 50.0, 3: 90.0, 4: None, 5: 40.0, 6: None}
  for step, score in scores.items():
    checkpoints.save(state(step), step, score)
  checkpoints.close()
  return tmp_path / "checkpoints"


def test_the_latest_and_the_best_are_kept(saved, shardings):
  assert {f.name for f in saved.iterdir() if f.name.isdigit()} == {"3", "6"}
  checkpoints = checkpoint.Checkpoints(saved)
  assert (checkpoints.latest_step(), checkpoints.best_step()) == (6, 3)
  restored = checkpoints.restore(6, jax.eval_shape(lambda: state(0)), shardings)
  checkpoints.close()
  np.testing.assert_array_equal(restored["params"]["layer"], [6, 6, 6])
  assert (
    jax.random.key_data(restored["rng"])
    == jax.random.key_data(jax.random.key(6))
  ).all()


@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_checkpoint_holds_the_state_of_its_step(tmp_path, num_devices):
  """Although the next step reuses the memory during the write."""
  devices = mesh.Mesh(jax.devices()[:num_devices], ("data",))
  everywhere = mesh.replicated(devices)
  add = jax.jit(lambda x: x + 1, donate_argnums=0, out_shardings=everywhere)
  checkpoints = checkpoint.Checkpoints(tmp_path, keep_latest=3)
  x = jax.device_put(jnp.zeros(2**20), everywhere)
  for step in (1, 2, 3):
    for _ in range(10):
      x = add(x)
    checkpoints.save({"x": x}, step, None)
  for step in (1, 2, 3):
    shape = jax.eval_shape(lambda: {"x": x})
    actual = checkpoints.restore(step, shape, {"x": everywhere})
    np.testing.assert_array_equal(actual["x"], 10.0 * step)
  checkpoints.close()


def test_a_full_disk_is_reported_with_sizes(saved, monkeypatch):
  checkpoints = checkpoint.Checkpoints(saved)
  monkeypatch.setattr(
    shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 80, 20)
  )
  large = state(7, size=10**6)
  with pytest.raises(RunError, match=r"step 7 takes 4\.0 MB, 0\.0 MB are free"):
    checkpoints.save(large, 7, None)
  checkpoints.close()
  assert {f.name for f in saved.iterdir() if f.name.isdigit()} == {"3", "6"}


def test_a_failed_write_is_one_line_and_harms_nothing(saved, monkeypatch):
  checkpoints = checkpoint.Checkpoints(saved)
  # Before the limit, which would cut the cached program short.
  noise = {"layer": jax.random.normal(jax.random.key(0), 10**6)}
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
  try:
    with pytest.raises(RunError, match="cannot be written") as caught:
      checkpoints.save(state(7) | {"params": noise}, 7, 99.0)
      checkpoints.close()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
  again = checkpoint.Checkpoints(saved)
  assert (again.latest_step(), again.best_step()) == (6, 3)
  again.close()


def test_the_variables_of_the_best_are_used(saved, everywhere):
  variables, step = checkpoint.restore_variables(saved, everywhere)
  assert step == 3 and variables.keys() == {"params", "batch_stats"}
  np.testing.assert_array_equal(variables["params"]["layer"], [3, 3, 3])


@pytest.mark.parametrize(
  "params",
  [
    {"layer": jax.ShapeDtypeStruct((5,), jnp.float32)},
    {"other": jax.ShapeDtypeStruct((3,), jnp.float32)},
  ],
)
def test_a_checkpoint_of_another_network_is_refused(saved, params):
  checkpoints = checkpoint.Checkpoints(saved)
  abstract = jax.eval_shape(lambda: state(0)) | {"params": params}
  with pytest.raises(InputError, match="a checkpoint of this network"):
    checkpoints.restore(
      6, abstract, mesh.split_state(abstract, mesh.build_mesh())
    )
  checkpoints.close()


@pytest.mark.parametrize("score", ["", '{"best_me', '{"other": 1.0}', "[]"])
def test_a_broken_score_is_dropped(saved, shardings, everywhere, score):
  (saved / "3" / "metrics" / "metrics").write_text(score)
  with pytest.raises(InputError, match="JSON with a number best_metric"):
    checkpoint.restore_variables(saved, everywhere)
  checkpoints = checkpoint.Checkpoints(saved)
  restored, (warning,) = checkpoints.restore_latest(state(0), shardings)
  assert "3/metrics/metrics" in warning and "has no score now" in warning
  np.testing.assert_array_equal(restored["params"]["layer"], [6, 6, 6])
  checkpoints.save(state(7), 7, 1.0)
  checkpoints.close()
  assert checkpoint.Checkpoints(saved, read_only=True).best_step() == 7


def test_a_run_without_a_checkpoint_says_so(tmp_path, everywhere):
  with pytest.raises(InputError, match="none yet"):
    checkpoint.restore_variables(tmp_path / "none", everywhere)


def truncate(folder):
  for path in folder.rglob("*"):
    if path.is_file():
      cut(path)


def test_a_broken_latest_checkpoint_is_set_aside(tmp_path, shardings):
  folder = tmp_path / "checkpoints"
  checkpoints = checkpoint.Checkpoints(folder, keep_latest=3)
  for step in (1, 2, 3):
    checkpoints.save(state(step), step, None)
  checkpoints.close()
  truncate(folder / "3")
  shutil.rmtree(folder / "2" / "state")
  checkpoints = checkpoint.Checkpoints(folder, keep_latest=3)
  restored, faults = checkpoints.restore_latest(state(0), shardings)
  np.testing.assert_array_equal(restored["params"]["layer"], [1, 1, 1])
  assert len(faults) == 2 and all("from step 1" in line for line in faults)
  # The steps come again and are saved again.
  for step in (2, 3):
    checkpoints.save(state(step + 10), step, None)
  checkpoints.close()
  checkpoints = checkpoint.Checkpoints(folder, keep_latest=3)
  restored, faults = checkpoints.restore_latest(state(0), shardings)
  checkpoints.close()
  np.testing.assert_array_equal(restored["params"]["layer"], [13, 13, 13])
  assert not faults
  aside = tmp_path / "checkpoints_broken"
  assert {f.name for f in aside.iterdir()} == {"2", "3"}


def lose(path):
  path.unlink()


def cut(path):
  os.truncate(path, path.stat().st_size // 2)


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0xFF
  path.write_bytes(content)


@pytest.mark.parametrize("damage", [lose, cut, flip])
def test_no_damage_to_a_file_goes_unseen(tmp_path, shardings, capfd, damage):
  """Restores the latest step, or logs that it restores the one before."""
  folder = tmp_path / "checkpoints"
  checkpoints = checkpoint.Checkpoints(folder, keep_latest=2)
  for step in (1, 2):
    checkpoints.save(state(step, size=10**4), step, float(step))
  checkpoints.close()
  for number, path in enumerate(sorted((folder / "2").rglob("*"))):
    if not path.is_file() or not path.stat().st_size:
      continue
    copy = tmp_path / f"copy_{number}"
    shutil.copytree(folder, copy)
    damage(copy / path.relative_to(folder))
    checkpoints = checkpoint.Checkpoints(copy)
    restored, warnings = checkpoints.restore_latest(
      state(0, size=10**4), shardings
    )
    checkpoints.close()
    came_from = 1 if any("from step 1" in line for line in warnings) else 2
    assert (restored["params"]["layer"] == came_from).all(), path
    assert "Traceback" not in capfd.readouterr().err


def test_where_none_can_be_read_nothing_is_touched(tmp_path, shardings):
  folder = tmp_path / "checkpoints"
  checkpoints = checkpoint.Checkpoints(folder)
  checkpoints.save(state(1), 1, None)
  checkpoints.close()
  truncate(folder / "1")
  checkpoints = checkpoint.Checkpoints(folder)
  with pytest.raises(InputError, match="checkpoints/1"):
    checkpoints.restore_latest(state(0), shardings)
  checkpoints.close()
  assert (folder / "1").is_dir()
