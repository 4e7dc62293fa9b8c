"""The published experiments: `configs/benchmark.py:LC-L`.

Modalities as in the tables of the FLAIR-HUB paper (see README.md);
Sentinel-1 means both orbits. Networks of several sensors have an auxiliary
decoder per modality, as the published parameter counts imply.
"""

import ml_collections

from flairhub_jax.configs import base
from flairhub_jax.errors import InputError

_AERIAL, _DEM, _SPOT = ("AERIAL_RGBI",), ("DEM_ELEV",), ("SPOT_RGBI",)
_HISTORICAL, _S2 = ("AERIAL-RLT_PAN",), ("SENTINEL2_TS",)
_S1 = ("SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS")

EXPERIMENTS = {
  "LC-A": _AERIAL,
  "LC-B": _AERIAL + _DEM,
  "LC-C": _AERIAL + _DEM + _SPOT,
  "LC-D": _AERIAL + _S2,
  "LC-E": _AERIAL + _S1,
  "LC-F": _AERIAL + _S2 + _S1,
  "LC-G": _S2,
  "LC-H": _S1,
  "LC-I": _SPOT,
  "LC-J": _DEM,
  "LC-K": _AERIAL + _HISTORICAL,
  "LC-L": _AERIAL + _DEM + _SPOT + _S2 + _S1,
  "LC-ALL": _AERIAL + _HISTORICAL + _DEM + _SPOT + _S2 + _S1,
  "LPIS-A": _AERIAL,
  "LPIS-B": _AERIAL + _SPOT,
  "LPIS-C": _AERIAL + _S2,
  "LPIS-D": _AERIAL + _S2 + _S1,
  "LPIS-E": _AERIAL + _SPOT + _S2,
  "LPIS-F": _S2,
  "LPIS-G": _S1,
  "LPIS-H": _S2 + _S1,
  "LPIS-I": _SPOT + _S2 + _S1,
  "LPIS-J": _AERIAL + _SPOT + _S2 + _S1,
  "LPIS-K": _SPOT,
}


def get_config(experiment: str = "LC-A") -> ml_collections.ConfigDict:
  """Returns one of `EXPERIMENTS`."""
  if experiment not in EXPERIMENTS:
    raise InputError(
      "configs/benchmark.py", f"one of {', '.join(EXPERIMENTS)}", experiment
    )
  config = base.get_config()
  config.data.modalities = EXPERIMENTS[experiment]
  if experiment.startswith("LPIS"):
    config.data.tasks = ("ALL_LABEL-LPIS",)
  if len(config.data.modalities) > 1:
    config.model.auxiliary = config.data.modalities
  return config
