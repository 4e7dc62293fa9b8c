"""Numbers of layers, against their definitions."""

import numpy as np
import pytest
import scipy.stats

from flairhub_jax.mapping.layers import Layers

PROBABILITIES = np.random.default_rng(0).dirichlet([0.4] * 5, (3, 4))
HAS_DATA = np.arange(12).reshape(3, 4) != 5


def of_rows(layers, probabilities=PROBABILITIES):
  values = layers.of_rows("t", probabilities.astype(np.float32), HAS_DATA)
  sizes = layers.pixel_bytes(("t",))
  assert {name: rows[0, :, 0].nbytes for name, rows in values.items()} == sizes
  return values


def test_measures_are_those_of_their_definitions():
  rows = of_rows(Layers(measures=("margin", "entropy", "confidence")))
  ordered = np.sort(PROBABILITIES, -1)
  expected = {
    "confidence": ordered[..., -1],
    "margin": ordered[..., -1] - ordered[..., -2],
    "entropy": scipy.stats.entropy(PROBABILITIES, base=5, axis=-1),
  }
  for name, values in expected.items():
    stored = rows[f"t.{name}"][:, 0]
    assert stored.dtype == np.uint8
    np.testing.assert_allclose(
      stored[HAS_DATA] / 250, values[HAS_DATA], atol=0.00201
    )
    assert (stored[~HAS_DATA] == 255).all()


@pytest.mark.parametrize("shares", [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [1]])
def test_measures_at_their_limits(shares):
  layers = Layers(measures=("confidence", "entropy", "margin"))
  rows = of_rows(layers, np.full((3, 4, len(shares)), shares))
  found = [int(rows[f"t.{name}"][0, 0, 0]) for name in layers.measures]
  is_certain = shares[0] == 1
  assert found == ([250, 0, 250] if is_certain else [83, 250, 0])


def test_probabilities_are_stored_as_computed_or_in_steps():
  chosen = PROBABILITIES[..., [3, 1]].astype(np.float32)
  for dtype, tolerance in (("uint8", 0.00201), ("float32", 0)):
    layers = Layers({"t": (3, 1)}, dtype=dtype)
    rows = np.moveaxis(of_rows(layers)["t.probabilities"], 1, -1)
    assert rows.dtype == dtype
    scale = 250 if dtype == "uint8" else 1
    np.testing.assert_allclose(
      rows[HAS_DATA] / scale, chosen[HAS_DATA], atol=tolerance, rtol=0
    )
    no_data = rows[~HAS_DATA]
    assert np.isnan(no_data).all() if scale == 1 else (no_data == 255).all()
