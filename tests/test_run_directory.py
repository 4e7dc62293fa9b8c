import pytest

from flairhub_jax import run_directory
from flairhub_jax.configs import base

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
