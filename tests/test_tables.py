import numpy as np

from flairhub_jax import labels, modalities


def test_the_seven_modalities_cover_the_same_ground():
  assert len(modalities.MODALITIES) == 7
  for row in modalities.MODALITIES.values():
    metres = row.metres_per_pixel * row.pixels
    np.testing.assert_allclose(metres, modalities.PATCH_METRES, rtol=1e-9)
    assert set(row.default_bands) <= {*row.bands, *row.derived_bands}
    assert set(row.mean) == set(row.std)
    np.dtype(row.dtype)


def test_cosia_has_nineteen_classes_of_which_fifteen_are_scored():
  task = labels.TASKS["AERIAL_LABEL-COSIA"]
  assert task.num_classes == 19
  np.testing.assert_array_equal(np.flatnonzero(~task.scored), [15, 16, 17, 18])
  assert len({c.colour for c in task.classes}) == 19
  assert tuple(task.palette[0]) == (0xDB, 0x0E, 0x9A)


def test_lpis_scores_all_its_23_classes():
  task = labels.TASKS["ALL_LABEL-LPIS"]
  assert task.num_classes == 23
  assert task.scored.all()
  assert task.classes[22].name == "background"
