"""The same training on other devices, in processes of their own."""

import shutil
import socket
import subprocess

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.training import runs

pytestmark = pytest.mark.slow


def start(converted, workdir, *flags, num_devices):
  """Three steps of a small network, in full precision and without dropout."""
  return subprocess.Popen(
    runs.command(
      converted,
      workdir,
      "--config.data.modalities=('AERIAL_RGBI',)",
      "--config.data.tasks=('AERIAL_LABEL-COSIA',)",
      "--config.data.batch_size=8",
      "--config.optim.name=sgd",
      "--config.optim.learning_rate=1e-2",
      "--config.train.num_steps=3",
      "--config.train.ema_decay=0.5",
      *flags,
    ),
    cwd=runs.ROOT,
    env=runs.environment(num_devices),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(*started):
  outputs = [process.communicate() for process in started]
  for process, (_, errors) in zip(started, outputs, strict=True):
    assert process.returncode == 0, errors
  return [errors for _, errors in outputs]


def parameters(workdir):
  folder = workdir / "checkpoints" / "3" / "state"
  with ocp.PyTreeCheckpointer() as checkpointer:
    # As arrays of the host: those devices are not here.
    as_arrays = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
      checkpointer.metadata(folder).item_metadata.tree,
    )
    state = checkpointer.restore(folder, restore_args=as_arrays)
  assert int(state["step"]) == 3
  return {name: state[name] for name in ("params", "ema", "batch_stats")}


def assert_alike(workdir, alone):
  """Equal but for the order of sums."""
  np.testing.assert_allclose(
    runs.losses(workdir), runs.losses(alone), rtol=1e-4
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-4),
    parameters(workdir),
    parameters(alone),
  )


@pytest.fixture(scope="module")
def alone(converted, tmp_path_factory):
  """The run of one device."""
  workdir = tmp_path_factory.mktemp("scale") / "alone"
  finish(start(converted, workdir, num_devices=1))
  return workdir


@pytest.mark.parametrize("fsdp", [1, 4, 8])
def test_eight_devices_learn_what_one_learns(converted, alone, tmp_path, fsdp):
  (outputs,) = finish(
    start(
      converted, tmp_path / "run", f"--config.mesh.fsdp={fsdp}", num_devices=8
    )
  )
  assert f"{8 // fsdp} data x {fsdp} fsdp devices" in outputs
  assert_alike(tmp_path / "run", alone)


def test_two_processes_learn_what_one_learns(converted, alone, tmp_path):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  outputs = finish(
    *(
      start(
        converted,
        tmp_path / "run",
        f"--coordinator=127.0.0.1:{port}",
        "--num-processes=2",
        f"--process-id={i}",
        "--config.mesh.fsdp=2",
        num_devices=1,
      )
      for i in range(2)
    )
  )
  assert "2 process" in outputs[0] and "step 3" not in outputs[1]
  assert_alike(tmp_path / "run", alone)
  records = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  assert len(records) == len((alone / "metrics.jsonl").read_text().splitlines())


def test_a_run_continues_on_another_mesh(converted, alone, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(alone, workdir)
  shutil.rmtree(workdir / "checkpoints" / "3")
  (outputs,) = finish(
    start(converted, workdir, "--config.mesh.fsdp=-1", "--config.mesh.data=1",
          num_devices=2)
  )  # fmt: skip
  assert "step 2 of 3" in outputs
  assert_alike(workdir, alone)
