"""Imported runs in other commands: evaluated, predicted, trained further."""

import jax
import numpy as np
import pytest

from flairhub_jax import checkpoint, mesh
from tests.commands.command_line import call
from tests.weights.reference_files import COVER


@pytest.mark.slow
def test_an_import_is_evaluated_and_predicted(capsys, run, converted, tmp_path):
  assert "--data" in call(capsys, "evaluate", "--run", run, code=2)
  message = call(capsys, "evaluate", "--run", run, "--data", converted)
  assert "scores.json" in message
  call(
    capsys,
    *("predict", "--run", run, "--data", converted),
    *("--out", tmp_path / "maps"),
  )
  assert list((tmp_path / "maps" / COVER).glob("*.tif"))


def train(capsys, converted, workdir, *overrides, code=0):
  return call(
    capsys,
    "train",
    "--config=configs/base.py",
    f"--workdir={workdir}",
    f"--config.data.path={converted}",
    "--config.data.batch_size=2",
    "--config.model.encoder=convnextv2_atto",
    "--config.model.decoder=unet",
    "--config.train.num_steps=1",
    "--config.optim.learning_rate=1e-30",
    *overrides,
    code=code,
  )


def first_layer(run):
  """The image encoder's stem and the head of a run's best checkpoint."""
  variables, _ = checkpoint.restore_variables(
    run / "checkpoints", mesh.replicated(mesh.build_mesh())
  )
  params = jax.device_get(variables["params"])
  return (
    params["encoder_AERIAL_RGBI"]["stem"]["kernel"],
    params[f"decoder_{COVER}"]["head_conv"]["kernel"],
  )


@pytest.mark.slow
def test_training_starts_from_a_run(
  capsys, run, converted, tmp_path, monkeypatch, pytestconfig
):
  monkeypatch.chdir(pytestconfig.rootpath)
  start = f"--config.train.init_from={run}"
  # The imported folder itself has no training run to continue.
  assert "init_from" in train(capsys, converted, run, code=2)
  other = train(
    capsys,
    converted,
    tmp_path / "other",
    start,
    "--config.model.decoder=upernet",
    code=2,
  )
  assert len(other.splitlines()) > 5 and "decoder_" in other
  assert "config.json" in train(
    capsys,
    converted,
    tmp_path / "other",
    f"--config.train.init_from={tmp_path}",
    code=2,
  )
  assert not (tmp_path / "other").exists()
  train(capsys, converted, tmp_path / "run", start)
  # Parameters that only the reference has are copied too.
  first, second = (
    (folder / "reference_only.safetensors").read_bytes()
    for folder in (run, tmp_path / "run")
  )
  assert first == second
  # A step with learning rate 0 leaves the imported weights unchanged.
  for actual, expected in zip(
    first_layer(tmp_path / "run"), first_layer(run), strict=True
  ):
    np.testing.assert_array_equal(actual, expected)
