"""What a configuration takes from the data."""

import pytest

from flairhub_jax.data import records
from flairhub_jax.training.resolve import resolve
from tests import tiny


@pytest.mark.parametrize(("validate_epochs", "steps"), [(1, 1), (3, 4)])
def test_epochs_become_steps(converted, validate_epochs, steps):
  dataset = records.load_dataset(converted)
  assert dataset.splits["train"].num_patches == 12
  config = tiny.get_config()
  config.data.path, config.data.batch_size = str(converted), 8
  config.train.num_steps = config.train.validate_every = None
  config.train.num_epochs = 6
  config.train.validate_epochs = validate_epochs
  actual = resolve(config, dataset).train
  assert (actual.num_steps, actual.validate_every) == (9, steps)


def test_any_scored_class_can_choose_the_best(converted):
  config = tiny.get_config()
  config.data.path = str(converted)
  config.train.best_metric = "AERIAL_LABEL-COSIA/iou/water"
  resolve(config, records.load_dataset(converted))
