"""Input normalisation, in each mode, against the reference."""

import numpy as np
import pytest

from flairhub_jax.configs import base
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build, inputs, normalise

# Per type of the fixture: a modality that stores it.
STORED_AS = {
  "uint8": "AERIAL_RGBI",
  "uint16": "SPOT_RGBI",
  "float32": "DEM_ELEV",
}


def sources(kind, *asked, bands=None, statistics=None):
  config = base.get_config()
  config.data.modalities = asked
  config.data.normalisation = kind
  for modality in bands or ():
    given = config.inputs[modality]
    given.bands = bands[modality]
    if statistics:
      given.mean, given.std = statistics
  return build.build_segmenter(config, output_size=(64, 64)).inputs


@pytest.mark.parametrize("dtype", STORED_AS)
@pytest.mark.parametrize("kind", ["custom", "scaling", "without"])
def test_values_equal_the_references(kind, dtype, units):
  notes, load = units
  numbers, modality = load("norm"), STORED_AS[dtype]
  row = FLAIR_HUB.sensors[modality]
  x = np.moveaxis(numbers[f"{dtype}/x"], 0, -1)
  # The fixture has three channels; elevation stores two, SPOT four.
  read = row.bands[:3]
  stored = np.zeros((*x.shape[:-1], len(row.bands)), x.dtype)
  stored[..., : len(read)] = x[..., : len(read)]
  means, stds = (notes["norm"][name][: len(read)] for name in ("means", "stds"))
  (source,) = sources(
    kind,
    modality,
    bands={modality: read},
    statistics=(
      dict(zip(read, means, strict=True)),
      dict(zip(read, stds, strict=True)),
    ),
  )
  actual = np.asarray(normalise.normalise(stored, source))
  expected = np.moveaxis(numbers[f"{dtype}/{kind}"], 0, -1)[..., : len(read)]
  assert actual.dtype == np.float32
  np.testing.assert_allclose(actual, expected, rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize(
  ("fixture_key", "bands"),
  [("calc", ("NDSM",)), ("dem", ("DSM", "DTM"))],
)
def test_elevation_equals_the_references(fixture_key, bands, units):
  numbers = units[1]("elevation_reshape")
  source = inputs.input_spec(FLAIR_HUB.sensors["DEM_ELEV"], bands)
  actual = normalise.normalise(np.moveaxis(numbers["dem"], 0, -1), source)
  expected = np.moveaxis(numbers[fixture_key], 0, -1)
  np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("kind", ["custom", "scaling", "without"])
def test_series_go_in_as_they_are(kind):
  series = [m.id for m in FLAIR_HUB.sensors.values() if m.is_series]
  for source in sources(kind, *series):
    assert source.mean == source.std == ()


def test_an_unknown_normalisation_is_named():
  with pytest.raises(InputError) as error:
    sources("minmax", "AERIAL_RGBI")
  assert str(error.value) == (
    "config.data.normalisation: expected any of custom, scaling, without,"
    " found 'minmax'"
  )
