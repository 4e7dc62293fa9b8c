"""The loop on a real (simulated) data set, in processes of their own."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.training import runs

# For tests that work with any network: one that compiles fast.
SERIES = "--config.data.modalities=('SENTINEL2_TS',)"


@pytest.fixture(scope="module")
def environment():
  """Two devices."""
  return runs.environment(2)


def run(environment, *args, expected=0):
  done = subprocess.run(
    runs.command(*args),
    cwd=runs.ROOT,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == expected, done.stderr
  return done


def logged_steps(workdir):
  path = workdir / "metrics.jsonl"
  if not path.exists():
    return []
  lines = path.read_text().splitlines()
  return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def final_state(workdir):
  folders = (workdir / "checkpoints").iterdir()
  latest = max(int(f.name) for f in folders if f.name.isdigit())
  with ocp.PyTreeCheckpointer() as checkpointer:
    state = checkpointer.restore(workdir / "checkpoints" / f"{latest}/state")
  return latest, jax.tree.map(as_array, state)


def as_array(leaf):
  if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf)


@pytest.fixture(scope="module")
def uninterrupted(environment, converted, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "whole"
  run(environment, converted, workdir)
  return workdir


@pytest.mark.slow
def test_a_killed_run_ends_bitwise_like_an_uninterrupted_one(
  environment, converted, uninterrupted, tmp_path
):
  workdir = tmp_path / "killed"
  kill_after = random.randint(1, 7)
  process = subprocess.Popen(
    runs.command(converted, workdir),
    cwd=runs.ROOT,
    env=environment,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  while kill_after not in logged_steps(workdir):
    assert process.poll() is None, "ended before it could be killed"
    time.sleep(0.002)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert max(logged_steps(workdir)) < 9
  # The data may have another number of readers; the result may not differ.
  run(environment, converted, workdir, "--config.data.num_workers=1")
  (step, whole), (step_again, again) = map(
    final_state, (uninterrupted, workdir)
  )
  assert step == step_again == 9
  jax.tree.map(np.testing.assert_array_equal, whole, again)
  message = logged_steps(workdir)
  assert message == logged_steps(uninterrupted), (
    "a step told twice or not at all"
  )


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_saves_and_says_so(
  environment, converted, tmp_path
):
  whole, workdir = tmp_path / "whole", tmp_path / "stopped"
  flags = (
    SERIES,
    "--config.train.num_steps=30",
    "--config.train.validate_every=15",
    "--config.train.save_every=1000",
  )
  run(environment, converted, whole, *flags)
  for name in ("SIGTERM", "SIGUSR1"):
    before = len(logged_steps(workdir))
    process = subprocess.Popen(
      runs.command(converted, workdir, *flags),
      cwd=runs.ROOT,
      env=environment,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    while len(logged_steps(workdir)) <= before:
      assert process.poll() is None, "ended before it could be stopped"
      time.sleep(0.002)
    process.send_signal(signal.Signals[name])
    _, errors = process.communicate()
    assert process.returncode == 75
    saved = max(int(f.name) for f in (workdir / "checkpoints").iterdir())
    assert before < saved < 30 and f"{name}: saved step {saved}" in errors
  run(environment, converted, workdir, *flags)
  (_, expected), (_, again) = map(final_state, (whole, workdir))
  jax.tree.map(np.testing.assert_array_equal, expected, again)


@pytest.mark.slow
def test_a_run_goes_on_from_before_a_broken_checkpoint(
  environment, converted, uninterrupted, tmp_path
):
  workdir = tmp_path / "broken"
  shutil.copytree(uninterrupted, workdir)
  for path in (workdir / "checkpoints/9/state").rglob("*"):
    if path.is_file():
      os.truncate(path, path.stat().st_size // 2)
  done = run(environment, converted, workdir)
  assert "checkpoints/9" in done.stderr and "from step 8" in done.stderr
  assert (workdir / "checkpoints_broken" / "9").is_dir()
  (step, whole), (step_again, again) = map(
    final_state, (uninterrupted, workdir)
  )
  assert step == step_again == 9
  jax.tree.map(np.testing.assert_array_equal, whole, again)


@pytest.mark.slow
def test_a_run_that_diverges_keeps_the_last_good_state(
  environment, converted, tmp_path
):
  done = run(
    environment,
    converted,
    tmp_path / "run",
    SERIES,
    "--config.optim.name=sgd",
    "--config.optim.schedule=constant",
    "--config.optim.learning_rate=1e15",
    "--config.train.save_every=1",
    expected=1,
  )
  message = re.search(r"step (\d+): (loss|gradient_norm) is .*", done.stderr)
  assert "Traceback" not in done.stderr and "patches D0" in message[0]
  step, state = final_state(tmp_path / "run")
  assert step == int(message[1]) - 1
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state["params"]))


@pytest.mark.slow
def test_a_trace_of_a_run_is_written(environment, converted, tmp_path):
  # Fewer patches than a batch: the batch is padded, and this is logged.
  done = run(
    environment,
    converted,
    tmp_path / "run",
    "--profile",
    "--config.data.modalities=('AERIAL_RGBI',)",
    "--config.data.batch_size=8",
    "--config.train.batch_statistics=device",
    "--config.model.remat=block",
    "--config.dtype=bfloat16",
    "--config.train.num_steps=12",
    "--config.train.validate_every=12",
  )
  assert "fewer than a batch of 8" in done.stderr
  traces = [
    f.name for f in (tmp_path / "run/profile").rglob("*") if f.is_file()
  ]
  assert any(name.endswith(".xplane.pb") for name in traces)
  assert runs.losses(tmp_path / "run")[-1] < runs.losses(tmp_path / "run")[0]


@pytest.mark.slow
def test_files_of_a_finished_run(uninterrupted):
  records = [
    json.loads(line)
    for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()
  ]
  losses = [r["loss"] for r in records if r["kind"] == "train"]
  assert len(losses) == 9 and losses[-1] < losses[0]
  valid = [r for r in records if r["kind"] == "valid"]
  assert [r["step"] for r in valid] == [4, 8, 9]
  # The published score, the one the reference selects by, and each class's.
  names = ("miou", "weighted_iou", "iou/building", "iou/brushwood")
  assert all(f"AERIAL_LABEL-COSIA/{n}" in r for r in valid for n in names)
  assert "AERIAL_LABEL-COSIA/iou/undefined" not in valid[0]
  scores = {r["step"]: r["AERIAL_LABEL-COSIA/miou"] for r in valid}
  kept = {int(f.name) for f in (uninterrupted / "checkpoints").iterdir()}
  assert kept == {8, 9, max(scores, key=scores.get)}
  train = [r for r in records if r["kind"] == "train"]
  for name in ("data", "compute", "evaluate", "save"):
    assert all(r[f"seconds/{name}"] >= 0 for r in train)
  assert train[4]["seconds/evaluate"] > 0 and train[2]["seconds/save"] > 0
  assert any((uninterrupted / "tensorboard").iterdir())
  config = json.loads((uninterrupted / "config.json").read_text())
  assert config["data"]["fingerprint"]


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(environment, converted, uninterrupted):
  before = (uninterrupted / "metrics.jsonl").read_text()
  done = run(environment, converted, uninterrupted)
  assert "9 steps done" in done.stdout
  assert (uninterrupted / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_evaluation_and_maps_of_a_run(environment, uninterrupted, tmp_path):
  import rasterio

  def flairhub(*args):
    done = subprocess.run(
      [sys.executable, "-m", "flairhub_jax", *args],
      cwd=runs.ROOT,
      env=environment,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

  table = flairhub("evaluate", "--run", str(uninterrupted))
  assert "mIoU" in table and "majority" in table
  results = uninterrupted / "results" / "own" / "test"
  scores = json.loads((results / "scores.json").read_text())
  confusion = np.array(scores["tasks"]["AERIAL_LABEL-COSIA"]["confusion"])
  assert (results / "maps.png").stat().st_size > 10_000

  out = tmp_path / "maps"
  flairhub("predict", "--run", str(uninterrupted), "--out", str(out))
  maps = sorted((out / "AERIAL_LABEL-COSIA").glob("PRED_*.tif"))
  assert confusion.sum() == len(maps) * 64 * 64  # no patch dropped
  counts = np.zeros(19, int)
  for path in maps:
    with rasterio.open(path) as raster:
      counts += np.bincount(raster.read(1).ravel(), minlength=19)
      assert raster.crs.to_epsg() == 2154
      assert raster.transform.a == pytest.approx(102.4 / 64)
      assert raster.colormap(1)[0][:3] == (0xDB, 0x0E, 0x9A)
      assert raster.compression.name == "deflate"
  # The maps are what was scored: same pixels of each predicted class.
  np.testing.assert_array_equal(counts, confusion.sum(0))

  # After a kill only the missing maps are written.
  stays = maps[0].stat().st_mtime_ns
  maps[-1].unlink()
  flairhub("predict", "--run", str(uninterrupted), "--out", str(out))
  assert maps[-1].exists() and maps[0].stat().st_mtime_ns == stays


def test_other_data_in_the_same_folder_are_refused(
  environment, converted, uninterrupted, tmp_path
):
  other = tmp_path / "records"
  shutil.copytree(converted, other)
  with open(other / "dataset.json", "a") as file:
    file.write("\n")
  done = run(environment, other, uninterrupted, expected=2)
  assert "the data set of this run" in done.stderr
  assert "Traceback" not in done.stderr


def test_another_config_in_the_same_folder_is_refused(
  environment, converted, uninterrupted
):
  done = run(
    environment,
    converted,
    uninterrupted,
    "--config.optim.weight_decay=0.5",
    expected=2,
  )
  assert "optim.weight_decay: 0.01 in the run, 0.5 given" in done.stderr
  assert "Traceback" not in done.stderr
