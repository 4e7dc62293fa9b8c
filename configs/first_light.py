"""Small networks for the real samples of experiments/first_light.

`chesapeake`: aerial images alone. `treesatai`: aerial and both Sentinels,
land cover.
"""

import ml_collections

from configs import quickstart


def get_config(sample: str = "chesapeake") -> ml_collections.ConfigDict:
  """Returns the configuration for one of the two samples."""
  config = quickstart.get_config()
  config.data.path = ""
  config.data.tasks = ("AERIAL_LABEL-COSIA",)
  if sample == "chesapeake":
    config.data.modalities = ("AERIAL_RGBI",)
    config.data.batch_size = 2
    config.train.num_epochs = 60
    config.train.validate_every = 30
  return config
