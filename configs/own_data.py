"""A small network on your own data, for two CPU cores.

    flairhub train --config=own_data --workdir=RUN --config.data.path=RECORDS

reads the first sensor and the first label task of the data set's schema;
`--config.data.modalities="('A','B')"` and `--config.data.tasks` choose others.
"""

import ml_collections

from flairhub_jax.configs import quickstart


def get_config() -> ml_collections.ConfigDict:
  """Returns the quickstart's network for the sensors of the data set."""
  config = quickstart.get_config()
  default = quickstart.base.get_config()
  config.data.path = ""
  config.data.modalities = default.data.modalities
  config.data.tasks = default.data.tasks
  config.data.batch_size = 4
  config.train.num_steps = 300
  config.train.validate_every = 100
  return config
