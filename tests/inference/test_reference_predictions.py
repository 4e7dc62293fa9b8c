"""Maps and scores of three patches against the reference's predictions."""

import jax
import numpy as np
import pytest

from flairhub_jax.configs import base
from flairhub_jax.data import geotiff
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.inference import patches, report
from flairhub_jax.models import build
from flairhub_jax.weights import reference
from tests.models import parity

# Few pixels lie between two classes, where rounding decides.
EQUAL_SHARE = 0.999
AVERAGES = {
  "mIoU": "miou",
  "Overall Accuracy": "overall_accuracy",
  "F-score": "f_score",
  "Precision": "precision",
  "Recall": "recall",
}
PER_CLASS = {
  "iou": "per_class_iou",
  "f_score": "per_class_fscore",
  "precision": "per_class_precision",
  "recall": "per_class_recall",
}
# Batches of two and of four pad series and fill the last; the reference
# predicts patch by patch.
CASES = [
  ("own", ("predict_image", 2)),
  ("own", ("predict_series", 2)),
  ("own", ("predict_series", 4)),
  ("own", ("predict_multitask", 2)),
  ("shared", ("predict_all_multitask", 2)),
]
MATRICES = [
  ("own", "predict_image"),
  ("own", "predict_series"),
  ("own", "predict_multitask"),
  ("shared", "predict_all_multitask"),
]


def load(origin, name):
  """Settings and numbers of one prediction of the reference."""
  return origin.settings(f"e2e/{name}"), origin.arrays(f"e2e/{name}")


def build_config(settings, batch_size):
  """Our configuration for the settings of the reference."""
  config = base.get_config()
  config.model.encoder, config.model.decoder = settings["_arch"].split("-")
  config.data.modalities = tuple(settings["_modalities"])
  config.data.tasks = tuple(k for k in settings if not k.startswith("_"))
  config.data.batch_size = batch_size
  config.data.date_buckets = (8, 16)
  config.data.cloud_filter.fallback = "snow_free"
  for modality, pixels in settings["_img_sizes"].items():
    config.inputs[modality].pixels = pixels
  message = settings["_settings"]
  parity.tell_utae(config, message["multitemp_model"])
  for row in FLAIR_HUB.sensors.values():
    # Ours are by band name; they must be what the reference had by position.
    given = config.inputs[row.id]
    for name in ("mean", "std"):
      numbers = message["normalization"].get(f"{row.id}_{name}s", [])
      assert [given[name][b] for b in given.bands if given[name]] == numbers
  return config


@pytest.fixture(scope="module")
def case(request, origin, minidata):
  """(runner, variables by the fixtures' rule, config, expected numbers)."""
  name, batch_size = request.param
  settings, numbers = load(origin, name)
  config = build_config(settings, batch_size)
  segmenter = build.build_segmenter(config, output_size=minidata.output_size)
  runner = patches.SplitRunner(segmenter, minidata, "test", config)
  assert runner.batch_size == batch_size
  shape = build.variables_shape(segmenter, runner.example_batch())
  keys = reference.to_reference(
    jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shape)
  )
  tensors = {
    key: origin.rule.make_param(key, x.shape, x.dtype)
    for key, x in keys.items()
  }
  variables = reference.from_reference(tensors, shape)
  return runner, variables, config, numbers


@pytest.mark.slow
@pytest.mark.parametrize(("origin", "case"), CASES, indirect=True, ids=str)
def test_maps_and_scores_equal_the_references(case, minidata, tmp_path):
  runner, variables, config, numbers = case
  (tmp_path / "maps").mkdir()
  patches.write_maps(
    runner,
    variables,
    dataset=minidata,
    split="test",
    tasks={name: FLAIR_HUB.tasks[name] for name in config.data.tasks},
    out=tmp_path / "maps",
  )
  names = [key for key in numbers if key.startswith("pred/")]
  assert len(names) == 3 * len(config.data.tasks)
  for name in names:
    path = tmp_path / "maps" / name.removeprefix("pred/")
    actual, _ = geotiff.read_raster(path)
    assert (actual[..., 0] == numbers[name]).mean() >= EQUAL_SHARE, name
  confusion = runner.confusion(variables)
  assert set(confusion) == set(config.data.tasks)
  for task, matrix in confusion.items():
    expected = numbers[f"confmat/{task}"]
    np.testing.assert_array_equal(matrix.sum(1), expected.sum(1))
    moved = np.abs(matrix - expected).sum() / 2
    assert moved <= (1 - EQUAL_SHARE) * expected.sum()


@pytest.mark.parametrize(("origin", "name"), MATRICES, indirect=["origin"])
def test_scores_of_a_matrix_equal_the_references(origin, name):
  settings, numbers = load(origin, name)
  config = build_config(settings, 1)
  confusion = {t: numbers[f"confmat/{t}"] for t in config.data.tasks}
  scored = {t: patches.scored_classes(config, t) for t in confusion}
  scores = report.scores_as_json(confusion, scored, FLAIR_HUB.tasks)
  for task, actual in scores.items():
    expected = settings[task]
    averages = zip(
      expected["Avg_metrics_name"], expected["Avg_metrics"], strict=True
    )
    for average, value in averages:
      assert actual[AVERAGES[average]] == pytest.approx(value, rel=1e-12)
    for score, key in PER_CLASS.items():
      values = [row[score] for row in actual["classes"].values()]
      np.testing.assert_allclose(values, expected[key], rtol=1e-12)
