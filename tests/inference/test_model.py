"""A checkpoint of the reference, imported and run as a notebook would."""

import json
import logging
import pathlib

import jax
import numpy as np
import pytest

import flairhub_jax
from flairhub_jax.__main__ import main
from flairhub_jax.errors import InputError
from flairhub_jax.inference.model import Model
from flairhub_jax.models import build, initialise
from flairhub_jax.weights import (
  files,
  reference,
  reference_export,
  reference_only,
  reference_yaml,
)
from tests import host_program, tiny
from tests.models import numbers

AERIAL, S2, COSIA = numbers.AERIAL, numbers.S2, numbers.COSIA
CASE = numbers.CASES["resnet18-upernet"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The run directory that `import-weights` writes."""
  folder = tmp_path_factory.mktemp("imported")
  _, variables, _ = numbers.network_of(CASE)
  documents, _ = reference_export.documents(numbers.config_of(CASE))
  reference_yaml.write_documents(folder / "configs_train", documents)
  weights = folder / "weights.safetensors"
  tensors = reference.to_reference(variables, prefix="model.")
  unused = numbers.variables_of(
    reference_only.shape_of(reference_only.of_config(numbers.config_of(CASE)))
  )
  tensors |= reference.to_reference(unused, prefix="model.")
  files.write_tensors(weights, tensors, {})
  argv = ["import-weights", "--weights", str(weights)]
  argv += ["--configs", str(folder / "configs_train")]
  assert main([*argv, "--out", str(folder / "run")]) == 0
  return folder / "run"


@pytest.fixture(scope="module")
def model(run):
  return flairhub_jax.load_model(run)


@pytest.fixture(scope="module")
def outputs(model):
  return model.apply(numbers.batch_of(CASE), aux=True)


def test_an_imported_network_gives_the_references_numbers(outputs):
  path = pathlib.Path(numbers.__file__).with_name("numbers.json")
  kept = json.loads(path.read_text(encoding="utf-8"))["resnet18-upernet"]
  actual = numbers.describe_outputs(outputs)
  assert actual.keys() == kept.keys()
  for key, expected in kept.items():
    np.testing.assert_allclose(
      actual[key]["values"],
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
  unused = reference_only.count(reference_only.of_config(model.config))
  assert model.num_parameters + unused == 14_179_627 + fusion


def test_bands_may_come_chosen_and_padding_by_its_zeros(model, outputs):
  batch = numbers.batch_of(CASE)
  chosen = batch["inputs"][AERIAL][..., [3, 0, 1]].astype(np.float64)
  short = {
    "inputs": {AERIAL: chosen, S2: batch["inputs"][S2]},
    "dates": batch["dates"],
  }
  np.testing.assert_array_equal(
    model.apply(short, bands="network")["logits"][COSIA],
    outputs["logits"][COSIA],
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
    (
      "inputs",
      {AERIAL: np.zeros((2, 64, 64, 2))},
      "with 4 .R, G, B, NIR. with bands='stored' or 3",
    ),
    ("dates", {S2: None}, "found none"),
    ("dates", {S2: np.zeros((2, 3))}, r"\(2, 4\)"),
    ("valid", {S2: np.ones((2, 3), bool)}, r"\(2, 4\)"),
  ],
)
def test_missing_or_invalid_inputs_are_named(model, kind, change, message):
  batch = numbers.batch_of(CASE)
  batch[kind] = batch[kind] | change
  with pytest.raises(InputError, match=message):
    model.apply(batch)


def series_model(*modalities, **fusion):
  """A drawn network, compiled in a moment, and a batch of two patches."""
  config = tiny.get_config()
  config.data.modalities, config.data.tasks = modalities, (COSIA,)
  config.model.auxiliary = modalities
  config.fusion.update(fusion)
  batch = build.input_shapes(config, num_dates=3)
  network = build.build_segmenter(config, output_size=(20, 20))
  variables = initialise.init_variables(network, batch, seed=0)
  rng = np.random.default_rng(0)
  arrays = jax.tree.map(
    lambda x: rng.integers(1, 100, (2, *x.shape[1:])).astype(x.dtype), batch
  )
  arrays["labels"] = {COSIA: np.zeros((2, 20, 20), np.uint8)}
  return Model(config, variables), arrays


@pytest.fixture(scope="module")
def series():
  return series_model(S2)


def test_it_can_be_traced(series):
  """Within jit, vmap and grad; padding is recognised by its zeros."""
  model, batch = series
  batch = {key: batch[key] for key in ("inputs", "dates", "labels")}
  batch["inputs"] = {S2: batch["inputs"][S2].astype(np.float32)}
  batch["inputs"][S2][:, 2] = 0

  def logits(batch):
    return model.apply(batch)["logits"][COSIA]

  expected = logits(batch)
  np.testing.assert_allclose(
    jax.jit(logits)(batch), expected, rtol=1e-4, atol=1e-5
  )
  several = jax.tree.map(lambda x: np.stack([x, x[::-1]]), batch)
  np.testing.assert_allclose(
    jax.vmap(logits)(several),
    np.stack([expected, expected[::-1]]),
    rtol=1e-4,
    atol=1e-5,
  )

  def score(image):
    return logits(batch | {"inputs": {S2: image}})[..., 0].mean()

  gradient = np.asarray(jax.grad(score)(batch["inputs"][S2]))
  assert np.isfinite(gradient).all()
  assert (gradient[:, :2] != 0).any() and not (gradient[:, 2] != 0).any()


def test_one_shape_is_compiled_once(series):
  model, batch = series
  model.apply(batch)
  with jax.log_compiles(), CompileLog() as log:
    model.apply(batch)
    model.apply(jax.tree.map(lambda x: x[::-1], batch))
    assert not log.lines
    model.apply(jax.tree.map(lambda x: x[:1], batch))
  assert log.lines


class CompileLog(logging.Handler):
  """The lines of `jax.log_compiles` about a network."""

  def __init__(self):
    super().__init__()
    self.lines = []

  def emit(self, record):
    line = record.getMessage()
    if "forward" in line and "ompil" in line:
      self.lines.append(line)

  def __enter__(self):
    logging.getLogger("jax").addHandler(self)
    return self

  def __exit__(self, *_):
    logging.getLogger("jax").removeHandler(self)


def test_outputs_not_requested_are_absent(series):
  model, batch = series
  plain = model.apply(batch)
  assert plain.keys() == {"logits"}
  more = model.apply(batch, aux=True, features=True)
  assert more["aux"][S2][COSIA].shape == (2, 20, 20, 19)
  (shared,) = more["features"]
  assert shared.shape[:3] == (2, 10, 10)
  np.testing.assert_array_equal(plain["logits"][COSIA], more["logits"][COSIA])


def test_features_are_what_the_decoder_reads(model, outputs):
  actual = model.apply(numbers.batch_of(CASE), features=True)["features"]
  # Of a ResNet-18: its stem, and four stages.
  assert [x.shape[-1] for x in actual] == [64, 64, 128, 256, 512]
  network = build.build_segmenter(
    model.config, output_size=outputs["logits"][COSIA].shape[1:3]
  )

  @jax.jit
  def decode(variables, features):
    return network.strategy.apply(variables, features, False, method="decode")

  decoded = decode(model.variables, actual)
  np.testing.assert_allclose(
    decoded[COSIA], outputs["logits"][COSIA], rtol=1e-3, atol=1e-3
  )


def test_late_fusion_has_no_features():
  model, batch = series_model(AERIAL, S2, kind="late_mean")
  with pytest.raises(InputError, match=r"features: .*late_mean"):
    model.apply(batch, features=True)


def test_elevation_is_not_taken_for_the_runs_own_bands():
  """Two bands are stored (DSM, DTM), and two are read (DSM, NDSM)."""
  elevation = "DEM_ELEV"
  config = tiny.get_config()
  config.data.modalities, config.data.tasks = (elevation,), (COSIA,)
  config.inputs[elevation].pixels = 32
  network = build.build_segmenter(config, output_size=(32, 32))
  variables = initialise.init_variables(
    network, build.input_shapes(config), seed=0
  )
  model = Model(config, variables)
  rng = np.random.default_rng(0)
  dtm = rng.uniform(0, 500, (2, 32, 32)).astype(np.float32)
  ndsm = rng.uniform(0, 500, (2, 32, 32)).astype(np.float32)
  stored = {"inputs": {elevation: np.stack([dtm + ndsm, dtm], -1)}}
  chosen = {"inputs": {elevation: np.stack([dtm + ndsm, ndsm], -1)}}
  expected = model.apply(stored)["logits"][COSIA]
  actual = model.apply(chosen, bands="network")["logits"][COSIA]
  np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
  wrong = model.apply(stored, bands="network")["logits"][COSIA]
  assert np.abs(wrong - expected).max() > 1e-2
  with pytest.raises(InputError, match="bands: expected stored or network"):
    model.apply(stored, bands="guess")


def test_a_missing_run_gives_one_line(tmp_path):
  with pytest.raises(InputError, match="run directory"):
    flairhub_jax.load_model(tmp_path)


def test_a_notebook_stays_as_it_was(run):
  before = host_program.snapshot()
  flairhub_jax.load_model(run).apply(numbers.batch_of(CASE))
  assert host_program.changes(before, host_program.snapshot()) == {}
