"""The table of published scores beside the configurations it belongs to."""

from flairhub_jax.configs import benchmark
from flairhub_jax.studies import published


def test_every_experiment_has_its_score():
  assert published.SCORES.keys() == benchmark.EXPERIMENTS.keys()
  for name in benchmark.EXPERIMENTS:
    config = benchmark.get_config(name)
    score = published.SCORES[name]
    assert score.modalities == config.data.modalities
    assert (score.task,) == config.data.tasks
    actual = published.find(config.data.modalities[::-1], config.data.tasks)
    assert actual == (name, score)


def test_other_inputs_or_both_tasks_have_none():
  both = ("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS")
  assert published.find(("AERIAL_RGBI",), both) is None
  assert published.find(("AERIAL-RLT_PAN",), both[:1]) is None
  one_orbit = ("AERIAL_RGBI", "SENTINEL1-ASC_TS")
  assert published.find(one_orbit, both[:1]) is None
