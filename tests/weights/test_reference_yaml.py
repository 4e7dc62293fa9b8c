"""The reference's YAML: read as one document and validated."""

import re

import pytest

from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.weights import reference_document, reference_yaml


def refusal(path):
  with pytest.raises(InputError) as error:
    reference_yaml.read_documents(path)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_a_folder_is_one_document(tmp_path):
  (tmp_path / "a.yaml").write_text("x: 1\n")
  (tmp_path / "b.yml").write_text("y: {z: [2]}\n")
  (tmp_path / "c.yaml").write_text("")
  (tmp_path / "notes.txt").write_text("{{{")
  (tmp_path / "deeper").mkdir()
  (tmp_path / "deeper" / "d.yaml").write_text("x: 3\n")
  joined = {"x": 1, "y": {"z": [2]}}
  assert reference_yaml.read_documents(tmp_path) == joined
  assert reference_yaml.read_documents(tmp_path / "a.yaml") == {"x": 1}


def test_files_that_disagree(tmp_path):
  (tmp_path / "a.yaml").write_text("x: 1\n")
  (tmp_path / "b.yaml").write_text("x: 2\n")
  text = refusal(tmp_path)
  assert "a.yaml" in text and "b.yaml" in text and "x" in text


@pytest.mark.parametrize(
  "text",
  [
    "x: [1",
    "- 1\n",
    "just words",
    "x: !!python/object/apply:os.system [true]",
    "x: 2021-99-99",
    "x: &a [1]\ny: *a",
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "x: &x {<<: *x}",
    "[" * 50_000,
    "? {a: b}\n: c",
    "x: '" + 300_000 * "a" + "'",
    "\x00",
  ],
)
def test_anything_but_a_plain_mapping_is_refused(tmp_path, text):
  path = tmp_path / "x.yaml"
  path.write_text(text)
  assert str(path) in refusal(path)


def test_bytes_that_are_no_text(tmp_path):
  path = tmp_path / "x.yaml"
  path.write_bytes(b"x: \xff\xfe\xfa")
  refusal(path)


def test_an_empty_or_missing_folder(tmp_path):
  refusal(tmp_path / "absent")
  refusal(tmp_path)


@pytest.mark.parametrize(
  ("path", "value"),
  [
    ("modalities.pre_processings.filter_sentinel2", 1),
    ("modalities.pre_processings.filter_sentinel2", "True"),
    ("models.multitemp_model.ref_date", 3),
    ("hyperparams.seed", 1.5),
    ("hyperparams.seed", True),
    ("hyperparams.seed", -1),
    ("hyperparams.seed", 10**30),
    ("hyperparams.learning_rate", "fast"),
    ("hyperparams.learning_rate", "nan"),
    ("hyperparams.learning_rate", float("nan")),
    ("hyperparams.learning_rate", float("inf")),
    ("hyperparams.learning_rate", 10**400),
    ("hyperparams.learning_rate", False),
    ("hyperparams.optim_betas", 3),
    ("hyperparams.optim_betas", [1, "a"]),
    ("modalities.normalization.SPOT_RGBI_means", [1, True]),
    ("modalities.inputs_channels.SPOT_RGBI", [1.5]),
    ("labels", "abc"),
    ("labels", [1]),
    ("hyperparams", [1]),
  ],
)
def test_values_of_other_types(path, value):
  *sections, name = path.split(".")

  def nested(value):
    document = {name: value}
    for section in reversed(sections):
      document = {section: document}
    return document

  with pytest.raises(InputError, match=rf"file: {re.escape(path)}.*expected"):
    reference_document.parse(nested(value), where="file")
  nothing = reference_document.parse({}, where="file")
  assert reference_document.parse(nested(None), where="file") == nothing


def test_faults_are_named_together():
  document = {"labels": 3, "hyperparams": {"seed": -1, "batch_size": "2"}}
  with pytest.raises(InputErrors) as error:
    reference_document.parse(document, where="file")
  assert len(error.value.problems) == 3
  assert "file: hyperparams.seed: expected" in str(error.value)


def test_a_number_that_yaml_takes_for_a_word():
  document = {"hyperparams": {"learning_rate": "5e-5"}}
  read = reference_document.parse(document, where="file")
  assert read.hyperparams.learning_rate == 5e-5


def test_tasks_that_are_not_trained_may_hold_anything():
  document = {"labels": ["a"], "labels_configs": {"a": {}, "b": [1]}}
  read = reference_document.parse(document, where="file")
  assert list(read.labels_configs) == ["a"]
