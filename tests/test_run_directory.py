import json

import ml_collections
import pytest

from flairhub_jax import run_directory
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError

# Other values of fields without effect on the learned parameters.
OTHER = {
  "mesh.data": 2,
  "mesh.fsdp": 2,
  "data.path": "elsewhere",
  "data.num_workers": 3,
  "model.remat": "block",
  "train.compilation_cache": "cache",
  "train.keep_best": 2,
  "train.keep_latest": 3,
  "train.log_every": 7,
  "train.save_every": 70,
  "train.validation_maps": 0,
}
METRIC = "AERIAL_LABEL-COSIA/miou"


@pytest.mark.parametrize(
  ("patience", "scores", "last"),
  [
    (0, [3, 2, 1, 0], 100),
    (2, [1, 3, 2, 4, 3], 100),
    (2, [1, 3, 2, 3, 5], 40),
    (1, [1, 1], 20),
    (3, [], 100),
  ],
)
def test_a_run_ends_early_where_scores_stop_improving(patience, scores, last):
  config = base.get_config()
  config.train.update(num_steps=100, best_metric=METRIC, patience=patience)
  validations = [
    {"kind": "valid", "step": 10 * n, METRIC: score}
    for n, score in enumerate(scores, 1)
  ]
  assert run_directory.last_step(config, validations) == last


def config_of(fingerprint):
  config = base.get_config()
  config.data.fingerprint = fingerprint
  return config


def write_scores(folder, data):
  folder.mkdir(parents=True)
  (folder / "scores.json").write_text(json.dumps({"data": data}))
  return folder


def test_results_lie_by_data(tmp_path):
  run, config = run_directory.RunDirectory(tmp_path), config_of("1234567890")
  own = run_directory.data_name("there/records", "1234567890", config)
  other = run_directory.data_name("my records (2)", "abcdefghij", config)
  assert (own, other) == ("own", "my_records_2_-abcdefgh")
  assert run.find_results("test", config) is None
  write_scores(run.results("test", other), "abcdefghij")
  # Scores on other data are never taken for the run's own.
  assert run.find_results("test", config) is None
  assert run.other_results("test") == [other]
  folder = write_scores(run.results("test", own), "1234567890")
  assert run.find_results("test", config) == folder


def test_results_of_earlier_versions_are_found(tmp_path):
  run = run_directory.RunDirectory(tmp_path)
  folder = write_scores(tmp_path / "results" / "test", "1234567890")
  assert run.find_results("test", config_of("1234567890")) == folder
  assert run.find_results("test", config_of("")) == folder
  assert run.find_results("test", config_of("other")) is None
  assert run.find_results("valid", config_of("1234567890")) is None


def test_imported_weights_are_compared_by_one_data_set(tmp_path):
  run, config = run_directory.RunDirectory(tmp_path), config_of("")
  folder = write_scores(run.results("test", "a-1"), "1")
  assert run.find_results("test", config) == folder
  write_scores(run.results("test", "b-2"), "2")
  with pytest.raises(InputError, match=r"one data set.*found a-1, b-2"):
    run.find_results("test", config)


def test_fields_that_change_no_result_are_not_in_the_digest():
  digests = []
  for field, value in (
    ("data.path", "/elsewhere"),
    ("data.num_workers", 7),
    ("data.fingerprint", "1"),
    ("mesh.data", 2),
    ("data.normalisation", "scaling"),
  ):
    config = base.get_config()
    config.update_from_flattened_dict({field: value})
    digests.append(run_directory.config_digest(config))
  assert len(set(digests[:-1])) == 1 and digests[-1] != digests[0]


def test_a_checkpoint_saved_anew_is_another(tmp_path):
  run = run_directory.RunDirectory(tmp_path)
  assert run_directory.is_of_checkpoint(run, {"step": 3, "checkpoint": "x"})
  state = run.checkpoints / "3" / "state"
  state.mkdir(parents=True)
  (state / "manifest.ocdbt").write_bytes(b"first")
  results = {"step": 3, "checkpoint": run.checkpoint_digest(3)}
  assert run_directory.is_of_checkpoint(run, results)
  assert run_directory.is_of_checkpoint(run, {"step": 3})
  (state / "manifest.ocdbt").write_bytes(b"second")
  assert not run_directory.is_of_checkpoint(run, results)


def fields_of(config, prefix=""):
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from fields_of(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}"


def test_every_field_without_effect_is_a_field():
  names = list(fields_of(base.get_config()))
  assert {name for name in names if not base.has_effect(name)} == set(OTHER)
  for name in base.WITHOUT_EFFECT:
    assert any(f"{field}.".startswith(f"{name}.") for field in names), name


def test_a_run_continues_with_other_values_of_fields_without_effect():
  old, new = base.get_config(), base.get_config()
  new.update_from_flattened_dict(OTHER)
  assert run_directory.conflicts(old, new) == []
  new.update_from_flattened_dict({"data.batch_size": 3, "mesh.data": 4})
  [line] = run_directory.conflicts(old, new)
  assert line.startswith("config.data.batch_size: 5 in the run")


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 10**5])
def test_a_file_that_is_not_a_json_object_is_named(tmp_path, text):
  path = tmp_path / "scores.json"
  path.write_bytes(text)
  with pytest.raises(InputError, match=r"scores\.json: expected .*JSON"):
    run_directory.read_json(path)
  path.write_bytes(b'{"step": 1}\n' + text + b"\n")
  assert run_directory.read_records(path) == [{"step": 1}]
