"""The smallest network that has every kind of part, for tests."""

import ml_collections

from flairhub_jax.configs import quickstart


def get_config() -> ml_collections.ConfigDict:
  config = quickstart.get_config()
  config.data.modalities = ("AERIAL_RGBI", "SENTINEL2_TS")
  config.data.batch_size = 4
  config.data.date_buckets = (8,)
  utae = config.model.utae
  utae.encoder_widths = (16, 16)
  utae.decoder_widths = (16, 16)
  utae.head_widths = (16, 19)
  utae.num_heads = 4
  utae.attention_width = 16
  config.model.decoder = "upernet_nano"
  config.train.num_steps = 9
  config.train.validate_every = 4
  config.train.save_every = 2
  config.train.log_every = 1
  config.train.validation_maps = 1
  return config
