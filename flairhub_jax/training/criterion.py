"""The training loss: a weighted sum of losses per task, summed over tasks."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from flairhub_jax.array_type import Array
from flairhub_jax.errors import InputError
from flairhub_jax.training import losses

_MAX_CLASS_WEIGHT = 1e30  # products stay finite in float32


def balance(
  class_weights: Sequence[float], counts: Sequence[int], power: float
) -> tuple[float, ...]:
  """Multiplies weights by (median frequency / frequency) ** power.

  Power 1 is the median-frequency balancing of Eigen and Fergus 2015
  (arXiv:1411.4734), 0 changes nothing. A class that does not occur keeps its
  weight.

  Args:
    class_weights: of each class; the median excludes classes of weight 0.
    counts: training pixels of each class; () if unknown.
    power: usually 0 to 1.
  """
  weights = np.asarray(class_weights, np.float64)
  if power and len(counts):
    counts = np.asarray(counts, np.float64)
    occurs = (weights > 0) & (counts > 0)
    if occurs.any():
      median = np.median(counts[occurs])
      weights[occurs] *= (median / counts[occurs]) ** power
  return tuple(weights.tolist())


@dataclasses.dataclass(frozen=True)
class Criterion:
  """The training loss of a configuration.

  Attributes:
    class_weights: by task.
    total_loss: `total_loss` with the weights of the configuration.
  """

  class_weights: Mapping[str, Float[Array, "k"]]
  total_loss: Callable[
    ..., tuple[Float[Array, ""], dict[str, Float[Array, ""]]]
  ]

  def __call__(self, outputs, labels, totals=None):
    """Returns the loss and its parts; see `total_loss`."""
    return self.total_loss(outputs, labels, totals=totals)

  def totals(
    self, labels: Mapping[str, Integer[Array, "b h w"]]
  ) -> dict[str, Float[Array, ""]]:
    """Total weight of the pixels of a batch, by task."""
    return {
      task: losses.total_weight(labels[task], weights)
      for task, weights in self.class_weights.items()
    }


def build_criterion(
  config: Any, class_counts: Mapping[str, Sequence[int]]
) -> Criterion:
  """Builds the training loss of a configuration.

  Args:
    config: the whole configuration.
    class_counts: training pixels of each class by task, where known.

  Raises:
    InputError: every weight is 0, or that of a class is too large.
  """
  class_weights = {}
  for task in config.data.tasks:
    settings = config.tasks[task]
    weights = balance(
      settings.class_weights,
      class_counts.get(task, ()),
      settings.frequency_power,
    )
    if not 0 < max(weights) <= _MAX_CLASS_WEIGHT:
      raise InputError(
        f"config.tasks.{task}.frequency_power",
        f"class weights from 0 to {_MAX_CLASS_WEIGHT:g}, not all 0",
        f"{max(weights):g} with {settings.frequency_power}",
      )
    class_weights[task] = jnp.asarray(weights, jnp.float32)
  task_weights = {task: config.tasks[task].weight for task in class_weights}
  if not any(task_weights.values()):
    raise InputError(
      "config.tasks", "a weight above 0 for any task", task_weights
    )
  return Criterion(
    class_weights,
    functools.partial(
      total_loss,
      class_weights=class_weights,
      task_weights=task_weights,
      auxiliary_weight=dict(config.auxiliary_weight),
      loss_of=losses.build_loss(config.loss),
    ),
  )


def total_loss(
  outputs: Mapping[str, Any],
  labels: Mapping[str, Integer[Array, "b h w"]],
  class_weights: Mapping[str, Float[Array, "k"]],
  task_weights: Mapping[str, float],
  auxiliary_weight: Mapping[str, float],
  loss_of: losses.Loss = losses.weighted_cross_entropy,
  totals: Mapping[str, Float[Array, ""]] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
  """Sums the losses of the tasks and their mean auxiliary losses.

  Args:
    outputs: of the network, {"logits": …, "aux": …}; with "log_variance" s, the
      loss l of a task becomes exp(-s) l + s / 2.
    labels: by task.
    class_weights: by task.
    task_weights: by task.
    auxiliary_weight: by modality; the weighted auxiliary losses of a task are
      averaged.
    loss_of: the loss of one output.
    totals: by task, see `losses.weighted_cross_entropy`; None: of these labels.

  Returns:
    The loss, and its parts: by task, unweighted; `<task>/aux`, the weighted
    mean of the auxiliary losses; `<task>/log_variance`, the learned
    uncertainty.
  """
  parts, total = {}, jnp.zeros(())
  for task, logits in outputs["logits"].items():
    total_of = None if totals is None else totals[task]
    of_task = (labels[task], class_weights[task], total_of)
    parts[task] = loss_of(logits, *of_task)
    loss = parts[task]
    auxiliary = [
      auxiliary_weight[modality] * loss_of(by_task[task], *of_task)
      for modality, by_task in outputs["aux"].items()
    ]
    if auxiliary:
      parts[f"{task}/aux"] = jnp.stack(auxiliary).mean()
      loss = loss + parts[f"{task}/aux"]
    if "log_variance" in outputs:
      log_variance = outputs["log_variance"][task]
      parts[f"{task}/log_variance"] = log_variance
      loss = jnp.exp(-log_variance) * loss + 0.5 * log_variance
    total = total + task_weights[task] * loss
  return total, parts
