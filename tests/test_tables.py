import numpy as np
import pytest

from flairhub_jax import labels, modalities
from tests.parity import origin


def test_all_modalities_cover_the_same_ground():
  for row in modalities.MODALITIES.values():
    metres = row.metres_per_pixel * row.pixels
    np.testing.assert_allclose(metres, modalities.PATCH_METRES, rtol=1e-9)
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
  row = labels.TASKS[task]
  scored = [c for c, is_scored in zip(row.classes, row.scored) if is_scored]
  names = [c.name.replace(" ", "_") for c in scored]
  assert names == [name.replace(" ", "_") for name in expected]
  assert len({c.colour for c in row.classes}) == row.num_classes
