import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax import metrics
from flairhub_jax.flair_hub import FLAIR_HUB

COSIA = FLAIR_HUB.tasks["AERIAL_LABEL-COSIA"]


def test_scores_of_a_matrix_worked_out_by_hand():
  confusion = np.array([[6, 2, 1], [1, 3, 0], [4, 4, 9]])
  scores = metrics.score(confusion, np.array([True, True, False]))
  # Without the third row and column: [[6, 2], [1, 3]].
  np.testing.assert_allclose(scores.iou, [100 * 6 / 9, 50.0])
  np.testing.assert_allclose(scores.precision, [100 * 6 / 7, 60.0])
  np.testing.assert_allclose(scores.recall, [75.0, 75.0])
  assert scores.overall_accuracy == pytest.approx(75.0)
  assert scores.miou == pytest.approx((100 * 6 / 9 + 50) / 2)


def test_the_summary_has_the_names_it_promises():
  scores = metrics.score(np.eye(3, dtype=int), np.array([True] * 3))
  assert tuple(scores.summary()) == metrics.AVERAGES
  assert scores.summary()["miou_present"] == 100


def test_confusion_matrix_leaves_out_padding_and_unknown_labels():
  truth = jnp.array([[[0, 1], [2, 255]], [[0, 0], [0, 0]]], jnp.uint8)
  actual = jnp.array([[[0, 0], [2, 1]], [[1, 1], [1, 1]]], jnp.int32)
  matrix = metrics.confusion_matrix(truth, actual, jnp.array([True, False]), 3)
  np.testing.assert_array_equal(matrix, [[1, 0, 0], [1, 0, 0], [0, 0, 1]])


def test_majority_baseline_keeps_the_truth_and_predicts_one_scored_class():
  confusion = np.array([[1, 1, 0], [0, 5, 2], [9, 9, 9]])
  baseline = metrics.majority_confusion(
    confusion, np.array([True, True, False])
  )
  np.testing.assert_array_equal(baseline.sum(1), confusion.sum(1))
  assert baseline[:, 1].sum() == confusion.sum()


@pytest.mark.parametrize("case", ["dense", "empty_class"])
def test_scores_equal_the_reference(origin, case):
  fixture = origin.arrays("units/metrics")
  notes = origin.settings("units/units")["metrics"]
  expected = notes["metrics_json"][case]
  scores = metrics.score(fixture[f"{case}/confmat"], COSIA.scored)
  averages = dict(
    zip(expected["Avg_metrics_name"], expected["Avg_metrics"], strict=True)
  )
  summary = scores.summary()
  for name, value in (
    ("miou", averages["mIoU"]),
    ("overall_accuracy", averages["Overall Accuracy"]),
    ("f_score", averages["F-score"]),
    ("precision", averages["Precision"]),
    ("recall", averages["Recall"]),
  ):
    assert summary[name] == pytest.approx(value, rel=1e-12), name
  np.testing.assert_allclose(scores.iou, expected["per_class_iou"], rtol=1e-12)


def test_weighted_iou_equals_the_references_selection_metric(origin):
  fixture = origin.arrays("units/metrics")
  matrix = metrics.confusion_matrix(
    jnp.asarray(fixture["targets"]),
    jnp.asarray(fixture["preds"], jnp.int32),
    jnp.array([True, True]),
    19,
  )
  scores = metrics.score(np.asarray(matrix), COSIA.scored)
  assert scores.weighted_iou / 100 == pytest.approx(
    float(fixture["jaccard_weighted"]), rel=1e-6
  )


@pytest.mark.parametrize("suffix", ["", "_absent18"])
def test_iou_of_every_class_equals_the_references(origin, suffix):
  fixture = origin.arrays("units/metrics")
  actual = fixture["preds"]
  if suffix:  # a class that occurs and is never predicted
    actual = np.where(actual == 18, 0, actual)
  matrix = metrics.confusion_matrix(
    jnp.asarray(fixture["targets"]),
    jnp.asarray(actual, jnp.int32),
    jnp.array([True, True]),
    19,
  )
  scores = metrics.score(np.asarray(matrix), np.ones(19, bool))
  np.testing.assert_allclose(
    scores.iou / 100, fixture[f"jaccard_per_class{suffix}"], rtol=1e-6
  )
  assert scores.weighted_iou / 100 == pytest.approx(
    float(fixture[f"jaccard_weighted{suffix}"]), rel=1e-6
  )
  if not suffix:
    macro = float(fixture["jaccard_macro"])
    assert scores.miou / 100 == pytest.approx(macro, rel=1e-6)
