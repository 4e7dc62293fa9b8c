"""The runs of the study, on simulated data and a network for two CPU cores.

`:strategies`, every fusion with and without modality dropout; `:sensors`, the
reference's fusion with one sensor alone, and with one left out.
"""

import ml_collections

from flairhub_jax.configs import quickstart, sweep_fusion
from flairhub_jax.errors import InputError


def get_config() -> ml_collections.ConfigDict:
  """Returns what all runs share."""
  config = quickstart.get_config()
  # Height above ground: absolute elevation does not transfer to new regions.
  dem = config.inputs.DEM_ELEV
  dem.bands, dem.mean.NDSM, dem.std.NDSM = ("NDSM",), 3.0, 5.0
  config.data.date_buckets = (8,)
  utae = config.model.utae
  utae.encoder_widths = utae.decoder_widths = (16, 16)
  config.optim.learning_rate = 3e-3
  config.train.num_steps = config.train.validate_every = 150
  return config.lock()


def get_runs(part: str) -> list[tuple[str, ml_collections.ConfigDict]]:
  """Returns name and configuration of each run of a part of the study."""
  if part == "strategies":
    return sweep_fusion.list_runs(get_config)
  if part != "sensors":
    raise InputError(__file__, ":strategies or :sensors", repr(part))
  sensors = get_config().data.modalities
  runs = []
  for seed in sweep_fusion.SEEDS:
    for sensor in sensors:
      others = tuple(other for other in sensors if other != sensor)
      for name, modalities in (
        (f"only_{sensor}", (sensor,)),
        (f"no_{sensor}", others),
      ):
        config = get_config()
        config.seed = seed
        config.data.modalities = modalities
        runs.append((f"{name}/seed-{seed}", config))
  return runs
