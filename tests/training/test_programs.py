"""Programs of a training: few, the largest first, refused before anything."""

import jax
import numpy as np
import optax

from flairhub_jax import mesh
from flairhub_jax.__main__ import main
from flairhub_jax.data import pipeline
from flairhub_jax.training import step
from flairhub_jax.training.state import init_state
from tests.data.test_series_lengths import patches  # noqa: F401
from tests.training import runs


def test_an_epoch_compiles_one_program_per_bucket(patches):  # noqa: F811
  """Three series of random lengths, on the devices of the tests."""
  devices = mesh.build_mesh()
  state = init_state(
    {"params": {"w": np.zeros(2, np.float32)}, "batch_stats": {}},
    optax.sgd(1.0),
    jax.random.key(0),
    has_ema=False,
  )

  def count_dates(state, batch):
    total = sum(x.sum() for x in batch["valid"].values())
    return state.replace(step=state.step + 1), {"total": total}

  train_step = step.CompiledStep(count_dates, mesh.split_state(state, devices))
  largest = mesh.batch_shapes(pipeline.example_batch(patches), 4, devices)
  reports = [train_step.compile(state, largest)]
  state = mesh.place_state(state, train_step.shardings)
  batches = pipeline.train_batches(patches, batch_size=4, seed=0)
  for _ in range(100):
    batch = next(batches)
    on_devices = mesh.place_batch(batch, devices)
    reports.append(train_step.compile(state, on_devices))
    state, message = train_step(state, on_devices)
    expected = sum(
      int(numbers[batch["patch"]].sum()) for numbers in patches.lengths.values()
    )
    assert int(message["total"]) == expected
  batches.close()
  compiled = [report for report in reports if report]
  assert 1 < len(compiled) <= 4
  longest = [int(numbers.max()) for numbers in patches.lengths.values()]
  assert all(str(number) in compiled[0] for number in longest)


def test_a_step_that_does_not_fit_leaves_nothing_behind(
  converted, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(step, "device_bytes", lambda: 10)
  argv = runs.command(
    converted, tmp_path / "run", "--config.data.modalities=('SENTINEL2_TS',)"
  )[3:]
  argv[1] = f"--config={runs.ROOT}/tests/tiny.py"
  assert main(argv) == 2
  message = capsys.readouterr().err
  assert "config.data.batch_size: expected a step that fits" in message
  assert not (tmp_path / "run").exists()
