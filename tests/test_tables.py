import numpy as np
import pytest

from flairhub_jax.flair_hub import FLAIR_HUB
from tests.parity import origin


def test_all_modalities_cover_the_same_ground():
  for row in FLAIR_HUB.sensors.values():
    metres = row.gsd * row.pixels
    np.testing.assert_allclose(metres, 102.4, rtol=1e-9)
    assert set(row.default_bands) <= {*row.bands, *row.derived_bands}
    assert set(row.mean) == set(row.std)
    np.dtype(row.dtype)


@pytest.mark.parametrize(
  ("task", "name"),
  [
    ("AERIAL_LABEL-COSIA", "predict_image"),
    ("ALL_LABEL-LPIS", "predict_series"),
  ],
)
def test_scored_classes_are_those_of_the_reference(task, name):
  expected = origin.own().settings(f"e2e/{name}")[task]["classes"]
  row = FLAIR_HUB.tasks[task]
  names = [row.classes[i].name for i in np.flatnonzero(row.scored)]
  # The reference writes "fruits orchards" and "swimming_pool".
  letters = str.maketrans("", "", "s_ ")
  actual, expected = (
    [name.translate(letters) for name in each] for each in (names, expected)
  )
  assert actual == expected


def test_classes_of_land_cover_can_be_told_apart():
  classes = FLAIR_HUB.tasks["AERIAL_LABEL-COSIA"].classes
  assert len({c.colour for c in classes}) == len(classes)
