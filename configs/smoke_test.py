"""Small networks for the real samples of experiments/smoke_test.

`chesapeake`: aerial images alone. `treesatai`: aerial and both Sentinels, to
be trained on simulated data, since that sample has no labels.
"""

import ml_collections

from flairhub_jax.configs import quickstart
from flairhub_jax.errors import InputError

MODALITIES = {
  "chesapeake": ("AERIAL_RGBI",),
  "treesatai": (
    "AERIAL_RGBI",
    "SENTINEL2_TS",
    "SENTINEL1-ASC_TS",
    "SENTINEL1-DESC_TS",
  ),
}


def get_config(sample: str = "chesapeake") -> ml_collections.ConfigDict:
  """Returns the configuration for one of the two samples."""
  if sample not in MODALITIES:
    raise InputError(
      "configs/smoke_test.py", f"one of {', '.join(MODALITIES)}", sample
    )
  config = quickstart.get_config()
  config.data.path = ""
  config.data.modalities = MODALITIES[sample]
  config.data.tasks = ("AERIAL_LABEL-COSIA",)
  config.data.batch_size = 2
  config.train.num_steps = 150
  return config
