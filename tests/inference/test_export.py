"""`flairhub export`: the network of the run, without this software."""

import json
import pathlib
import subprocess
import sys
import zipfile

import jax
import jax.export
import jaxtyping
import numpy as np
import pytest

import flairhub_jax
from flairhub_jax.__main__ import main
from tests.mapping import regions

ROOT = pathlib.Path(__file__).parents[2]
AERIAL, S2, COSIA = "AERIAL_RGBI", "SENTINEL2_TS", regions.COSIA


def export(folder, modalities, **fields):
  """A run and the archive that the command writes."""
  run = regions.write_run(
    folder / "run", modalities=modalities, noise=0.01, **fields
  )
  out = folder / "network.zip"
  assert command(run.path, out) == 0
  return run, out


def command(run, out):
  """Exit code of the command; jaxtyping cannot compare symbolic sizes."""
  jaxtyping.config.update("jaxtyping_disable", True)
  try:
    return main(["export", "--run", str(run), "--out", str(out)])
  finally:
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def image_alone(tmp_path_factory):
  return export(tmp_path_factory.mktemp("image"), (AERIAL,))


@pytest.fixture(scope="module")
def with_series(tmp_path_factory):
  return export(tmp_path_factory.mktemp("series"), (AERIAL, S2))


def read(archive):
  """Contract and function of an archive."""
  with zipfile.ZipFile(archive) as file:
    contract = json.loads(file.read("contract.json"))
    program = jax.export.deserialize(bytearray(file.read("network.jax")))
  return contract, program


def batch_of(contract, **sizes):
  """Random arrays as a contract has them; a date and a sensor are absent."""
  rng = np.random.default_rng(0)
  batch = {}
  for name, array in contract["arrays"].items():
    shape = [sizes.get(size, size) for size in array["shape"]]
    part, sensor = name.split("/")
    if part == "inputs":
      values = rng.integers(1, 250, shape)
    elif part == "dates":
      values = np.sort(rng.integers(-100, 200, shape))
    elif part == "valid":
      values = np.broadcast_to(np.arange(shape[1]) < shape[1] - 1, shape)
    else:
      values = (np.arange(*shape) > 0) | (sensor == AERIAL)
    batch.setdefault(part, {})[sensor] = values.astype(array["dtype"])
  return batch


def expected_probabilities(run, batch):
  logits = flairhub_jax.load_model(run.path).apply(batch)["logits"][COSIA]
  return np.asarray(jax.nn.softmax(logits, -1))


@pytest.mark.parametrize("kind", ["image_alone", "with_series"])
def test_the_program_gives_the_probabilities_of_the_run(kind, request):
  run, archive = request.getfixturevalue(kind)
  contract, program = read(archive)
  assert program.platforms == ("cpu", "cuda", "tpu")
  call = jax.jit(program.call)
  batch = batch_of(contract, b=3, t=5)
  expected = expected_probabilities(run, batch)
  actual = np.asarray(call(batch)[COSIA])
  shape = contract["probabilities"][COSIA]["shape"]
  assert list(actual.shape) == [3, *shape[1:]]
  assert expected.std(axis=(0, 1, 2)).max() > 1e-3
  np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
  one = {
    part: {name: x[1:2] for name, x in arrays.items()}
    for part, arrays in batch.items()
  }
  alone = np.asarray(call(one)[COSIA])
  np.testing.assert_allclose(alone, expected[1:2], rtol=0, atol=1e-6)


def test_the_contract_describes_sensors_and_classes(with_series):
  run, archive = with_series
  contract, _ = read(archive)
  assert contract["origin"]["run"] == run.path.name
  assert contract["origin"]["step"] == 3
  assert contract["arrays"]["inputs/AERIAL_RGBI"] == {
    "shape": ["b", 64, 64, 4],
    "dtype": "uint8",
  }
  assert contract["arrays"]["inputs/SENTINEL2_TS"]["shape"][:2] == ["b", "t"]
  config = flairhub_jax.load_model(run.path).config
  sensor, given = config.schema.sensors[AERIAL], config.inputs[AERIAL]
  aerial = contract["sensors"][0]
  assert aerial["id"] == AERIAL and aerial["gsd"] == 0.2
  assert tuple(aerial["bands"]) == sensor.bands
  means = {each["band"]: each["mean"] for each in aerial["channels"]}
  assert means == {b: given.mean[b] for b in given.bands}
  (task,) = contract["tasks"]
  classes = config.schema.tasks[COSIA].classes
  assert task["classes"] == [each.name for each in classes]
  assert task["colours"] == [each.colour for each in classes]


def test_the_loader_needs_jax_and_numpy_only(image_alone, tmp_path):
  _, archive = image_alone
  contract, program = read(archive)
  batch = batch_of(contract, b=2)
  flat = {
    f"{part}/{sensor}": x
    for part, arrays in batch.items()
    for sensor, x in arrays.items()
  }
  np.savez(tmp_path / "batch.npz", **flat)
  loader = ROOT / "experiments/export/load.py"
  code = (
    "import runpy, sys\n"
    "sys.modules['flairhub_jax'] = sys.modules['flax'] = None\n"
    f"runpy.run_path({str(loader)!r})\n"
  )
  files = archive, tmp_path / "batch.npz", tmp_path / "out.npz"
  subprocess.run([sys.executable, "-c", code, *files], check=True)
  with np.load(tmp_path / "out.npz") as written:
    expected = np.asarray(program.call(batch)[COSIA])
    np.testing.assert_allclose(written[COSIA], expected, rtol=0, atol=1e-6)


def test_the_program_names_no_folder_of_this_machine(with_series):
  with zipfile.ZipFile(with_series[1]) as file:
    program = file.read("network.jax")
  for name in (str(ROOT), jax.__file__.rpartition("jax")[0]):
    assert name.encode() not in program


def test_wrong_arguments_are_one_line(image_alone, tmp_path, capsys):
  run, archive = image_alone
  before = archive.read_bytes()
  for out, message in (
    (archive, "not overwritten"),
    (tmp_path / "network.bin", "a name that ends in .zip"),
    (tmp_path / "none" / "network.zip", "an existing folder"),
  ):
    capsys.readouterr()
    assert command(run.path, out) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("flairhub export: ") and message in line
  assert command(tmp_path, tmp_path / "network.zip") == 2
  assert not list(tmp_path.iterdir())
  assert archive.read_bytes() == before
