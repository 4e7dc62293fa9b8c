"""What is minimised: class-weighted cross entropy, summed over tasks."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def weighted_cross_entropy(
  logits: Float[Array, "b h w k"],
  labels: Int[Array, "b h w"],
  class_weights: Float[Array, "k"],
) -> Float[Array, ""]:
  """Mean over pixels, each weighted by its true class: sum(w l) / sum(w).

  As torch's, except that labels beyond the classes count nothing (the
  reference trains them as class 0), and that 0 instead of NaN comes out where
  no pixel counts.
  """
  logits = logits.astype(jnp.float32)
  index = labels.astype(jnp.int32)
  is_class = index < logits.shape[-1]
  index = jnp.where(is_class, index, 0)
  true_logit = jnp.take_along_axis(logits, index[..., None], -1)[..., 0]
  pixel_loss = jax.nn.logsumexp(logits, -1) - true_logit
  weight = class_weights[index] * is_class
  total = weight.sum()
  return (weight * pixel_loss).sum() / jnp.where(total > 0, total, 1)


def total_loss(
  outputs: Mapping[str, Any],
  labels: Mapping[str, Int[Array, "b h w"]],
  class_weights: Mapping[str, Float[Array, "k"]],
  task_weights: Mapping[str, float],
  auxiliary_weight: float,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
  """Sums the tasks' losses, and their mean auxiliary losses.

  Args:
    outputs: of the network: {"logits": …, "aux": …}; with "log_variance" each
      task's loss l counts exp(-s) l + s / 2, s being that of the task.
    labels: by task.
    class_weights: by task.
    task_weights: by task.
    auxiliary_weight: of a task's mean loss over its auxiliary decoders.

  Returns:
    The loss, and its unweighted parts by task name and, for auxiliary ones,
    `<task>/aux`; learned uncertainties as `<task>/log_variance`.
  """
  parts, total = {}, jnp.zeros(())
  for task, logits in outputs["logits"].items():
    truth, weights = labels[task], class_weights[task]
    parts[task] = weighted_cross_entropy(logits, truth, weights)
    loss = parts[task]
    auxiliary = [
      weighted_cross_entropy(by_task[task], truth, weights)
      for by_task in outputs["aux"].values()
    ]
    if auxiliary:
      parts[f"{task}/aux"] = jnp.stack(auxiliary).mean()
      loss = loss + auxiliary_weight * parts[f"{task}/aux"]
    if "log_variance" in outputs:
      log_variance = outputs["log_variance"][task]
      parts[f"{task}/log_variance"] = log_variance
      loss = jnp.exp(-log_variance) * loss + 0.5 * log_variance
    total = total + task_weights[task] * loss
  return total, parts
