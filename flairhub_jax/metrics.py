"""Confusion matrices on the device, and the scores read from them."""

import dataclasses
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Integer

from flairhub_jax.array_type import Array
from flairhub_jax.schema import LabelTask


def confusion_matrix(
  truth: Integer[Array, "b h w"],
  predictions: Integer[Array, "b h w"],
  sample_mask: Bool[Array, "b"],
  num_classes: int,
) -> Int[Array, "k k"]:
  """Counts pixels by true class (rows) and predicted class (columns).

  Labels outside 0..k-1 and samples with `sample_mask` False are ignored. Counts
  are int32, enough for one batch; those of a data set are summed on the host.
  """
  pixel_mask = sample_mask[:, None, None] & (truth < num_classes) & (truth >= 0)
  index = truth.astype(jnp.int32) * num_classes + predictions
  index = jnp.where(pixel_mask, index, num_classes**2)
  counts = jnp.bincount(index.reshape(-1), length=num_classes**2 + 1)
  return counts[:-1].reshape(num_classes, num_classes).astype(jnp.int32)


# Keys of `Scores.summary`.
AVERAGES = (
  "miou",
  "miou_present",
  "overall_accuracy",
  "f_score",
  "precision",
  "recall",
  "weighted_iou",
)


@dataclasses.dataclass(frozen=True)
class Scores:
  """Scores of a confusion matrix, in percent.

  Per-class values cover the scored classes, in order of value; a class that
  neither occurs nor is predicted has 0, as in the reference.

  Attributes:
    classes: int [s], values of the scored classes.
    iou: [s], intersection over union.
    f_score: [s].
    precision: [s].
    recall: [s].
    support: int [s], true pixels.
    miou: plain mean of `iou`.
    overall_accuracy: fraction of correct pixels.
    weighted_iou: mean IoU of all classes, including unscored ones, weighted by
      support; the reference's criterion for its checkpoint.
  """

  classes: np.ndarray
  iou: np.ndarray
  f_score: np.ndarray
  precision: np.ndarray
  recall: np.ndarray
  support: np.ndarray
  miou: float
  overall_accuracy: float
  weighted_iou: float

  def summary(self) -> dict[str, float]:
    """Returns the averages by name, in percent."""
    return {
      "miou": self.miou,
      "miou_present": float(self.iou[self.support > 0].mean())
      if self.support.any()
      else 0.0,
      "overall_accuracy": self.overall_accuracy,
      "f_score": float(self.f_score.mean()),
      "precision": float(self.precision.mean()),
      "recall": float(self.recall.mean()),
      "weighted_iou": self.weighted_iou,
    }


def score_names(
  task: LabelTask, classes: Iterable[int] | Int[np.ndarray, "s"]
) -> list[str]:
  """Names of a task's scores: its averages, then the IoU of some classes.

  They are those of validation logs and of `config.train.best_metric`.
  """
  own = [f"iou/{task.classes[value].name}" for value in classes]
  return [f"{task.id}/{name}" for name in (*AVERAGES, *own)]


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  """100 * part / whole, 0 where the whole is 0."""
  return 100 * np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def score(confusion: np.ndarray, scored: np.ndarray) -> Scores:
  """Computes the reference's scores of a confusion matrix.

  Rows and columns of unscored classes are deleted first, so that a pixel
  predicted as one of them is ignored instead of being an error: the rule of the
  published scores.

  Args:
    confusion: int [k k], rows true, columns predicted.
    scored: bool [k].
  """
  scored = np.asarray(scored, bool)
  reduced = confusion[np.ix_(scored, scored)].astype(np.float64)
  hits, truth, predicted = np.diag(reduced), reduced.sum(1), reduced.sum(0)
  precision, recall = _percent(hits, predicted), _percent(hits, truth)
  iou = _percent(hits, truth + predicted - hits)
  full = confusion.astype(np.float64)
  all_hits, support = np.diag(full), full.sum(1)
  all_iou = _percent(all_hits, support + full.sum(0) - all_hits)
  total = max(reduced.sum(), 1.0)
  return Scores(
    classes=np.flatnonzero(scored),
    iou=iou,
    f_score=_percent(2 * hits, truth + predicted),
    precision=precision,
    recall=recall,
    support=truth.astype(np.int64),
    miou=float(iou.mean()),
    overall_accuracy=float(100 * hits.sum() / total),
    weighted_iou=float((all_iou * support).sum() / max(support.sum(), 1.0)),
  )


def majority_confusion(confusion: np.ndarray, scored: np.ndarray) -> np.ndarray:
  """Returns the confusion matrix of predicting the most frequent class."""
  support = confusion.sum(1)
  majority = int(np.argmax(np.where(scored, support, -1)))
  result = np.zeros_like(confusion)
  result[:, majority] = support
  return result
