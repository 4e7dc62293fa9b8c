"""YAML of others: read as one document, never trusted."""

import pytest

from flairhub_jax.errors import InputError
from flairhub_jax.weights import reference_yaml


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
def test_what_is_no_plain_mapping(tmp_path, text):
  path = tmp_path / "x.yaml"
  path.write_text(text)
  assert str(path) in refusal(path)


def test_bytes_that_are_no_text(tmp_path):
  path = tmp_path / "x.yaml"
  path.write_bytes(b"x: \xff\xfe\xfa")
  refusal(path)


def test_nothing_there(tmp_path):
  refusal(tmp_path / "absent")
  refusal(tmp_path)


@pytest.mark.parametrize(
  ("method", "value"),
  [
    ("is_true", 1),
    ("is_true", "True"),
    ("text", 3),
    ("whole", 1.5),
    ("whole", True),
    ("whole", -1),
    ("whole", 10**30),
    ("number", "fast"),
    ("number", float("nan")),
    ("number", float("inf")),
    ("number", 10**400),
    ("number", False),
    ("numbers", 3),
    ("numbers", [1, "a"]),
    ("whole_numbers", [1.5]),
    ("texts", "abc"),
    ("texts", [1]),
    ("section", [1]),
  ],
)
def test_values_of_other_types(method, value):
  section = reference_yaml.Section("file", {"name": value})
  with pytest.raises(InputError, match=r"file\.name"):
    getattr(section, method)("name")
  assert not reference_yaml.Section("file", {}).section("name")
  if method != "section":
    assert getattr(reference_yaml.Section("f", {}), method)("name") is None


def test_a_number_that_yaml_takes_for_a_word():
  section = reference_yaml.Section("file", {"rate": "5e-5"})
  assert section.number("rate") == 5e-5
