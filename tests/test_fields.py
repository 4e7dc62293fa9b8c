"""Every field of a configuration has its range, checked at the start."""

import math
import pickle

import pytest

from flairhub_jax import configuration, fields
from flairhub_jax.configs import base
from flairhub_jax.errors import MOST_LINES, InputError, InputErrors
from tests import shipped

LAND_COVER = "tasks.AERIAL_LABEL-COSIA.class_weights"


def values():
  return base.get_config().copy_and_resolve_references().to_dict()


def put(given, path, value):
  *sections, name = path.split(".")
  for section in sections:
    given = given[section]
  given[name] = value


def test_every_field_has_a_rule_and_every_rule_a_field():
  there = set(fields.flatten(values()))
  assert [path for path in there if fields.rule_of(path) is None] == []
  whole = {path for path in fields.RULES if not path.endswith(".*")}
  assert whole - there == set()


@pytest.mark.parametrize("config", shipped.CONFIGS)
def test_the_configurations_of_the_project_are_in_range(config):
  given = config.copy_and_resolve_references().to_dict()
  assert fields.faults(given) == []


@pytest.mark.parametrize(
  "value",
  [-1, -0.5, math.nan, math.inf, 10**400, "\0", {}, {"a": 1}, [[1]], None, ()],
)
def test_no_field_accepts_a_value_of_impossible_type(value):
  """Sets a wrong value in every field; each is reported or valid there."""
  fine = {
    -1: ("mesh.data", "mesh.fsdp", "mean", "frequency_power"),
    -0.5: ("mean", "frequency_power"),
    (): ("model.auxiliary",),
  }
  for path in fields.flatten(values()):
    given = values()
    put(given, path, value)
    message = fields.faults(given)
    kept = fine.get(value, ()) if isinstance(value, (int, float, tuple)) else ()
    rule = fields.rule_of(path)
    if any(word in path for word in kept) or (
      value is None and rule.may_be_none
    ):
      assert message == [], path
    else:
      assert message and all(f"config.{path}" in line for line in message), path
      assert all(len(line) < 300 and line.isprintable() for line in message)


@pytest.mark.parametrize(
  "weights",
  [(1.0,), (1.0,) * 18, (0.0,) * 19, (1.0,) * 18 + (-1.0,), (math.nan,) * 19],
)
def test_weights_of_classes_have_their_length_and_sign(weights):
  given = values()
  put(given, LAND_COVER, weights)
  (line,) = fields.faults(given)
  assert f"config.{LAND_COVER}: expected 19 numbers" in line


@pytest.mark.parametrize(
  ("text", "actual"),
  [
    ("05-15", (5, 15)),
    ("2018-09-01", (9, 1)),
    ("0515", None),
    ("02-29", None),
    ("2020-02-29", None),
    ("13-01", None),
    ("5-15", None),
    ("05-15\n", None),
    (515, None),
  ],
)
def test_days_of_every_year(text, actual):
  assert fields.month_and_day(text) == actual


def test_many_faults_are_ten_lines_and_a_count():
  given = values() | {f"unknown_{i}": i for i in range(30)}
  with pytest.raises(InputErrors) as caught:
    configuration.complete(given, where="config.json")
  lines = str(caught.value).splitlines()
  assert len(lines) == MOST_LINES + 1 and lines[-1] == "and 20 more"
  assert "config.json: config.unknown_0: expected no such field" in lines[0]
  assert len(caught.value.problems) == 30


def test_a_field_that_an_earlier_version_lacked_has_its_default():
  given = values()
  del given["train"]["ema_decay"], given["loss"]
  given["inputs"]["AERIAL_RGBI"]["mean"] = {}
  config = configuration.complete(given)
  assert config.train.ema_decay == 0.0 and config.loss.cross_entropy == 1.0
  assert not config.inputs.AERIAL_RGBI.mean  # left empty on purpose


def test_names_of_earlier_versions_are_understood():
  given = values()
  given["labels"] = given.pop("tasks")
  given["labels"]["ALL_LABEL-LPIS"]["weight"] = 0.25
  given["model"]["remat"] = True
  config = configuration.complete(given)
  assert config.tasks["ALL_LABEL-LPIS"].weight == 0.25
  assert config.model.remat == "stage"


def test_optional_fields_can_be_set_to_none():
  config = configuration.load_config_file(
    "quickstart", ["--config.train.validate_every=None"]
  )
  assert config.train.validate_every is None
  config = configuration.load_config_file(
    "quickstart",
    ["--config.train.num_steps=None", "--config.train.num_steps=7"],
  )
  assert config.train.num_steps == 7
  with pytest.raises(InputError, match="batch_size"):
    configuration.load_config_file(
      "quickstart", ["--config.data.batch_size=None"]
    )


def test_a_field_left_open_can_be_set_after_json(tmp_path):
  path = tmp_path / "config.json"
  path.write_text(configuration.to_json(base.get_config()))
  config = configuration.load_config_file(
    str(path), ["--config.train.num_steps=7", "--config.model.remat=True"]
  )
  assert config.train.num_steps == 7 and config.model.remat


def test_home_is_expanded_in_paths(monkeypatch):
  monkeypatch.setenv("HOME", "/home/somebody")
  config = configuration.load_config_file(
    "quickstart", ["--config.data.path=~/records"]
  )
  assert config.data.path == "/home/somebody/records"


@pytest.mark.parametrize(
  "text", ["", "[]", "1", "{", '{"data": 5}', '{"seed": {}}', "[" * 10**5, "\0"]
)
def test_json_that_is_no_configuration(tmp_path, text):
  path = tmp_path / "config.json"
  path.write_text(text)
  with pytest.raises(InputError, match=r"config\.json") as caught:
    configuration.load_json(path)
  assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
  ("body", "message"),
  [
    ("raise RuntimeError('so')", "line 2.*RuntimeError: so"),
    ("return 1 / 0", "ZeroDivisionError"),
    ("return {}", "a ConfigDict, found dict"),
    ("import nowhere", "nowhere"),
  ],
)
def test_a_failing_file_is_reported_with_its_line(tmp_path, body, message):
  path = tmp_path / "mine.py"
  path.write_text(f"def get_config():\n  {body}\n")
  with pytest.raises(InputError, match=message):
    configuration.load_config_file(str(path))


def test_errors_cross_processes():
  one = InputError("file\n", "this", "that")
  assert str(pickle.loads(pickle.dumps(one))) == str(one)
  assert str(one) == "file\\n: expected this, found that"
  several = InputErrors([f"fault {i}" for i in range(20)])
  again = pickle.loads(pickle.dumps(several))
  assert again.problems == several.problems and str(again) == str(several)
