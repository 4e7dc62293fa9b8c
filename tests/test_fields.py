"""Every field of a configuration has its range, checked at the start."""

import math
import pickle

import pytest

from flairhub_jax import config_file, configuration, fields
from flairhub_jax.configs import base
from flairhub_jax.errors import MOST_LINES, InputError, InputErrors
from flairhub_jax.flair_hub import FLAIR_HUB
from tests import shipped

LAND_COVER = "tasks.AERIAL_LABEL-COSIA.class_weights"


RULES = fields.rules(FLAIR_HUB, {})


def values():
  given = base.get_config().copy_and_resolve_references().to_dict()
  del given["schema"]
  return given


def put(given, path, value):
  *sections, name = path.split(".")
  for section in sections:
    given = given[section]
  given[name] = value


def test_every_field_has_a_rule_and_every_rule_a_field():
  flat = fields.flatten(values())
  there = {path for path, value in flat.items() if value != {}}
  assert [path for path in there if fields.rule_of(path, RULES) is None] == []
  whole = {path for path in RULES if not path.endswith(".*")}
  assert whole - there == set()


@pytest.mark.parametrize("config", shipped.CONFIGS)
def test_the_configurations_of_the_project_are_in_range(config):
  given = config.copy_and_resolve_references().to_dict()
  del given["schema"]
  assert fields.faults(given, FLAIR_HUB) == []


@pytest.mark.parametrize(
  "value",
  [-1, -0.5, math.nan, math.inf, 10**400, "\0", {}, {"a": 1}, [[1]], None, ()],
)
def test_no_field_accepts_a_value_of_impossible_type(value):
  """Sets a wrong value in every field; each is reported or valid there."""
  fine = {
    -1: ("mesh.data", "mesh.fsdp", "mean", "frequency_power"),
    -0.5: ("mean", "frequency_power"),
    (): (
      "train.init_names",
      "model.auxiliary",
      "data.augment.",
      "colour.sensors",
      "noise.sensors",
    ),
  }
  for path, default in fields.flatten(values()).items():
    if default == {}:
      continue
    given = values()
    put(given, path, value)
    message = fields.faults(given, FLAIR_HUB)
    kept = fine.get(value, ()) if isinstance(value, (int, float, tuple)) else ()
    rule = fields.rule_of(path, RULES)
    if any(word in f"{path}." for word in kept) or (
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
  (line,) = fields.faults(given, FLAIR_HUB)
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
  assert (
    config.train.ema_decay == 0.0 and config.loss.cross_entropy.weight == 1.0
  )
  assert not config.inputs.AERIAL_RGBI.mean  # left empty on purpose


def test_names_of_earlier_versions_are_understood():
  given = values()
  given["labels"] = given.pop("tasks")
  given["labels"]["ALL_LABEL-LPIS"]["weight"] = 0.25
  given["model"]["remat"] = True
  config = configuration.complete(given)
  assert config.tasks["ALL_LABEL-LPIS"].weight == 0.25
  assert config.model.remat == "stage"


def test_losses_and_augmentation_of_earlier_versions_are_understood():
  given = values()
  given["loss"] = dict(
    cross_entropy=0.5,
    focal=1.0,
    dice=0.25,
    lovasz=0.0,
    label_smoothing=0.125,
    focal_gamma=3.0,
  )
  given["data"]["augment"] = True
  del given["data"]["augmentation"], given["fusion"]["mid_attention"]
  config = configuration.complete(given)
  assert config.loss.cross_entropy.to_dict() == {
    "weight": 0.5,
    "label_smoothing": 0.125,
  }
  assert config.loss.focal.to_dict() == {"weight": 1.0, "gamma": 3.0}
  assert (config.loss.dice.weight, config.loss.lovasz.weight) == (0.25, 0.0)
  assert config.data.augment == ("symmetry",)
  assert config.fusion.mid_attention.num_heads == 4
  # Nothing else is changed, and the new form is not changed again.
  again = configuration.from_json(configuration.to_json(config))
  assert configuration.differences(again, config) == []
  given["data"]["augment"] = False
  assert configuration.complete(given).data.augment == ()


def test_optional_fields_can_be_set_to_none():
  config = config_file.load_config_file(
    "quickstart", ["--config.train.validate_every=None"]
  )
  assert config.train.validate_every is None
  config = config_file.load_config_file(
    "quickstart",
    ["--config.train.num_steps=None", "--config.train.num_steps=7"],
  )
  assert config.train.num_steps == 7
  with pytest.raises(InputError, match="batch_size"):
    config_file.load_config_file(
      "quickstart", ["--config.data.batch_size=None"]
    )


def test_a_field_left_open_can_be_set_after_json(tmp_path):
  path = tmp_path / "config.json"
  path.write_text(configuration.to_json(base.get_config()))
  config = config_file.load_config_file(
    str(path), ["--config.train.num_steps=7", "--config.model.remat=True"]
  )
  assert config.train.num_steps == 7 and config.model.remat


def test_home_is_expanded_in_paths(monkeypatch):
  monkeypatch.setenv("HOME", "/home/somebody")
  config = config_file.load_config_file(
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
    config_file.load_config_file(str(path))


def test_errors_cross_processes():
  one = InputError("file\n", "this", "that")
  assert str(pickle.loads(pickle.dumps(one))) == str(one)
  assert str(one) == "file\\n: expected this, found that"
  several = InputErrors([f"fault {i}" for i in range(20)])
  again = pickle.loads(pickle.dumps(several))
  assert again.problems == several.problems and str(again) == str(several)
