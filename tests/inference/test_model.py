"""A checkpoint of the reference, imported and run as a notebook would."""

import json
import pathlib

import numpy as np
import pytest

import flairhub_jax
from flairhub_jax.__main__ import main
from flairhub_jax.errors import InputError
from flairhub_jax.weights import (
  files,
  reference,
  reference_export,
  reference_yaml,
)
from tests import host_program
from tests.models import numbers

AERIAL, S2, COSIA = numbers.AERIAL, numbers.S2, numbers.COSIA
CASE = numbers.CASES["resnet18-upernet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """What `import-weights` makes of a file and its YAML."""
  folder = tmp_path_factory.mktemp("imported")
  _, variables, _ = numbers.network_of(CASE)
  documents, _ = reference_export.documents(numbers.config_of(CASE))
  reference_yaml.write_documents(folder / "configs_train", documents)
  weights = folder / "weights.safetensors"
  files.write_tensors(
    weights, reference.to_reference(variables, prefix="model."), {}
  )
  words = ["import-weights", "--weights", str(weights)]
  words += ["--configs", str(folder / "configs_train")]
  assert main([*words, "--out", str(folder / "run")]) == 0
  return folder / "run"


@pytest.fixture(scope="module")
def model(run):
  return flairhub_jax.load_model(run)


@pytest.fixture(scope="module")
def outputs(model):
  return model.apply(numbers.batch_of(CASE))


def test_an_imported_network_gives_the_references_numbers(outputs):
  path = pathlib.Path(numbers.__file__).with_name("numbers.json")
  kept = json.loads(path.read_text(encoding="utf-8"))["resnet18-upernet"]
  found = numbers.describe_outputs(outputs)
  assert found.keys() == kept.keys()
  for key, expected in kept.items():
    np.testing.assert_allclose(
      found[key]["values"],
      expected["values"],
      rtol=0,
      atol=5e-5 * expected["std"],
    )


def test_a_model_knows_its_configuration_and_size(model):
  assert model.config.model.encoder == "resnet18"
  assert model.config.data.modalities == (AERIAL, S2)
  # What the reference prints, and its fusion: per level, a map of the image
  # and one of the series to the width of the first.
  levels = zip(
    (3, 64, 64, 128, 256, 512), (32, 32, 32, 16, 16, 16), strict=True
  )
  fusion = sum((image + series + 1) * image for image, series in levels)
  assert model.num_parameters == 14_179_627 + fusion


def test_bands_may_come_chosen_and_padding_by_its_zeros(model, outputs):
  batch = numbers.batch_of(CASE)
  chosen = batch["inputs"][AERIAL][..., [3, 0, 1]].astype(np.float64)
  short = {
    "inputs": {AERIAL: chosen, S2: batch["inputs"][S2]},
    "dates": batch["dates"],
  }
  np.testing.assert_array_equal(
    model.apply(short)["logits"][COSIA], outputs["logits"][COSIA]
  )


def test_labels_give_the_size_of_the_logits(model):
  batch = numbers.batch_of(CASE) | {"labels": {COSIA: np.zeros((2, 32, 48))}}
  assert model.apply(batch)["logits"][COSIA].shape == (2, 32, 48, 19)


def test_normalisation_can_be_chosen(run, model):
  assert model.config.data.normalisation == "without"
  other = flairhub_jax.load_model(run, normalisation="scaling")
  assert other.config.data.normalisation == "scaling"
  with pytest.raises(InputError, match=r"normalisation.*found 'log'"):
    flairhub_jax.load_model(run, normalisation="log")


@pytest.mark.parametrize(
  ("kind", "change", "message"),
  [
    ("inputs", {S2: None}, "expected an array"),
    ("inputs", {AERIAL: np.zeros((2, 64, 64))}, "b h w c"),
    ("inputs", {AERIAL: np.zeros((2, 64, 64, 2))}, "3 or 4 bands"),
    ("dates", {S2: None}, "found none"),
    ("dates", {S2: np.zeros((2, 3))}, r"\(2, 4\)"),
    ("valid", {S2: np.ones((2, 3), bool)}, r"\(2, 4\)"),
  ],
)
def test_what_is_missing_is_named(model, kind, change, message):
  batch = numbers.batch_of(CASE)
  batch[kind] = batch[kind] | change
  with pytest.raises(InputError, match=message):
    model.apply(batch)


def test_no_run_is_one_line(tmp_path):
  with pytest.raises(InputError, match="run directory"):
    flairhub_jax.load_model(tmp_path)


def test_a_notebook_stays_as_it_was(run):
  before = host_program.snapshot()
  flairhub_jax.load_model(run).apply(numbers.batch_of(CASE))
  assert host_program.changes(before, host_program.snapshot()) == {}
