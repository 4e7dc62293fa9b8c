import ml_collections
import pytest

from flairhub_jax import run_directory
from flairhub_jax.configs import base

# Other values of the fields that change nothing of what is learned.
OTHER = {
  "mesh.data": 2,
  "mesh.fsdp": 2,
  "data.path": "elsewhere",
  "data.num_workers": 3,
  "model.remat": True,
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
