"""How much weight a fusion gives each modality."""

import json

import jax
import numpy as np
import pytest

from flairhub_jax.data import records
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.inference import evaluation, patches, usage
from flairhub_jax.models import build, initialise
from tests import tiny


def measured(converted, kind):
  config = tiny.get_config()
  config.data.path = str(converted)
  config.fusion.kind = kind
  dataset = records.load_dataset(converted)
  model = build.build_segmenter(config, output_size=dataset.output_size)
  runner = patches.SplitRunner(model, dataset, "test", config)
  variables = initialise.init_variables(model, runner.example_batch(), seed=3)
  rng = np.random.default_rng(0)
  # Gates start at zero, that is with equal weights.
  variables["params"] = jax.tree.map(
    lambda x: x + 0.05 * rng.standard_normal(x.shape).astype(np.float32),
    variables["params"],
  )
  return evaluation.evaluate(
    runner, model, variables, tasks=FLAIR_HUB.tasks, drawn=[0, 1]
  ).usage


@pytest.mark.parametrize("kind", ["mid_gated", "late_gated"])
def test_weights_of_a_pixel_sum_to_one(converted, kind, tmp_path):
  actual = measured(converted, kind)
  assert actual.modalities == ("AERIAL_RGBI", "SENTINEL2_TS")
  # Four levels of maps for all tasks, or logits of each task.
  expected = (
    {f"level {i}" for i in range(4)}
    if kind == "mid_gated"
    else {"land cover, level 0", "crops, level 0"}
  )
  assert set(actual.mean) == expected
  for by_task in actual.mean.values():
    for table in by_task.values():
      seen = np.isfinite(table).all(1)
      assert seen.any()
      np.testing.assert_allclose(table[seen].sum(1), 1, atol=1e-4)
      assert table[seen].std() > 1e-3
  assert set(actual.maps) == {0, 1}
  for levels in actual.maps.values():
    for weights in levels.values():
      assert weights.shape[0] == 2
      np.testing.assert_allclose(weights.sum(0), 1, atol=1e-4)
  titles = {0: "first", 1: "second"}
  usage.write(tmp_path, actual, titles, {"run": "x"}, FLAIR_HUB.tasks)
  content = json.loads((tmp_path / "usage.json").read_text(encoding="utf-8"))
  assert content["usage"].keys() == actual.mean.keys()
  assert (tmp_path / "usage.png").stat().st_size > 10_000
  assert (tmp_path / "usage_maps.png").stat().st_size > 5_000


def test_a_fusion_without_weights_has_no_usage(converted):
  assert measured(converted, "mid_mean") is None


def test_weights_are_summed_by_the_class_at_their_place():
  weights = np.array([[[[0.25, 1.0]]], [[[0.75, 0.0]]]], np.float32)
  truth = np.array([[[0, 0, 2, 2], [0, 0, 2, 2]]], np.uint8)
  sums, counts = usage._sum_by_class(weights, truth, np.array([True]), 3)
  np.testing.assert_allclose(sums, [[[0.25, 0.75], [0, 0], [1, 0]]])
  np.testing.assert_allclose(counts, [[1, 0, 1]])
