"""Four sensors, both tasks, a network small enough for two CPU cores.

`make quickstart` trains it on 250 simulated patches of 128 pixels in a few
minutes.
"""

import ml_collections

from flairhub_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
  """Returns aerial + elevation + Sentinel-2 + Sentinel-1 on a small Swin."""
  config = base.get_config()
  config.data.path = "quickstart/records"
  config.data.modalities = (
    "AERIAL_RGBI",
    "DEM_ELEV",
    "SENTINEL2_TS",
    "SENTINEL1-ASC_TS",
  )
  config.data.tasks = ("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS")
  config.data.batch_size = 8
  config.data.augment = ("symmetry",)
  config.data.date_buckets = (16,)  # one length, one compilation
  config.model.encoder = "swin_nano"
  config.model.decoder = "upernet_nano"
  utae = config.model.utae
  utae.encoder_widths = (32, 32)
  utae.decoder_widths = (32, 32)
  utae.head_widths = (32, 19)
  utae.num_heads = 8
  utae.attention_width = 64
  config.optim.learning_rate = 2e-3
  config.optim.div_factor = 10.0
  config.train.num_epochs = 12
  config.train.validate_every = 75
  return config
