"""Size of GDAL's cache of blocks."""

import numpy as np

from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.mapping import block_cache, inputs, layout
from tests.mapping import regions

AERIAL = "AERIAL_RGBI"


def test_the_cache_holds_two_rows_of_windows(tmp_path, monkeypatch):
  monkeypatch.setattr(block_cache, "_LEAST", 1000)
  values = regions.image(300, 90)
  path = regions.write_raster(tmp_path / "a.tif", values)
  sensors = inputs.open_inputs(
    FLAIR_HUB, (AERIAL,), {AERIAL: inputs.SensorPaths(str(path))}
  )
  plan = layout.plan(sensors, window=32)
  assert values.dtype == np.uint8
  assert block_cache.size(sensors, plan) == 2 * 32 * 90 * 4
  whole = layout.plan(sensors, window=1000)
  assert block_cache.size(sensors, whole) == 2 * 300 * 90 * 4
  monkeypatch.setattr(block_cache, "_LEAST", 2**20)
  assert block_cache.size(sensors, plan) == 2**20
  inputs.close(sensors)
