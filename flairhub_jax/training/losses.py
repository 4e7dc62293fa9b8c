"""Losses of one output, and their table `LOSSES`.

Every loss ignores pixels whose label is not a class or is a class of weight 0,
and is 0 if all pixels are ignored.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Integer

from flairhub_jax.array_type import Array
from flairhub_jax.errors import InputError

Loss = Callable[..., Float[Array, ""]]


def weighted_cross_entropy(
  logits: Float[Array, "b h w k"],
  labels: Integer[Array, "b h w"],
  class_weights: Float[Array, "k"],
  total: Float[Array, ""] | None = None,
  *,
  label_smoothing: float = 0.0,
) -> Float[Array, ""]:
  """Mean over pixels, weighted by the true class: sum(w l) / sum(w).

  As in PyTorch, except that labels that are not classes are ignored (the
  reference treats them as class 0).

  Args:
    logits: of every class.
    labels: true class; labels outside 0 to k - 1 are ignored.
    class_weights: of each class.
    total: divisor of the sum over pixels; None: `total_weight`.
    label_smoothing: fraction of a label that is distributed evenly over all
      classes, each with its weight.
  """
  index, is_class = _index_of(labels, logits.shape[-1])
  weight = jnp.where(is_class, class_weights[index], 0.0)
  logits = logits.astype(jnp.float32)
  loss = _mean(-_log_probability(logits, index), weight, total)
  if not label_smoothing:
    return loss
  normaliser = jax.nn.logsumexp(logits, -1)
  spread = normaliser * class_weights.sum() - logits @ class_weights
  if total is None:
    total = weight.sum()
  spread = jnp.where(weight > 0, spread, 0.0).sum()
  spread = spread / jnp.where(total > 0, total, 1)
  per_class = label_smoothing / logits.shape[-1]
  return (1 - label_smoothing) * loss + per_class * spread


def total_weight(
  labels: Integer[Array, "b h w"], class_weights: Float[Array, "k"]
) -> Float[Array, ""]:
  """Sums the class weights over the pixels."""
  index, is_class = _index_of(labels, class_weights.shape[0])
  return jnp.where(is_class, class_weights[index], 0.0).sum()


def focal(
  logits: Float[Array, "b h w k"],
  labels: Integer[Array, "b h w"],
  class_weights: Float[Array, "k"],
  total: Float[Array, ""] | None = None,
  *,
  gamma: float,
) -> Float[Array, ""]:
  """Cross entropy times (1 - p)**gamma; p is the probability of the true class.

  Lin et al. 2017, arXiv:1708.02002; weighted as `weighted_cross_entropy`.
  """
  index, is_class = _index_of(labels, logits.shape[-1])
  log_p = _log_probability(logits.astype(jnp.float32), index)
  # For gamma < 1 the power is not differentiable at p = 1.
  one_minus_p = jnp.maximum(-jnp.expm1(log_p), 1e-7)
  weight = jnp.where(is_class, class_weights[index], 0.0)
  return _mean(-(one_minus_p**gamma) * log_p, weight, total)


def dice(
  logits: Float[Array, "b h w k"],
  labels: Integer[Array, "b h w"],
  class_weights: Float[Array, "k"],
) -> Float[Array, ""]:
  """1 - 2 sum(p y) / (sum(p) + sum(y)), mean over the classes that occur.

  Sums are over the whole batch. Milletari et al. 2016, arXiv:1606.04797,
  without the squares.
  """
  index, pixel_mask = _masked(labels, class_weights)
  p = jax.nn.softmax(logits.astype(jnp.float32), -1)
  p = jnp.where(pixel_mask[..., None], p, 0.0)
  is_true = _is_true(index, pixel_mask, logits.shape[-1])
  pixels = (0, 1, 2)
  both = jnp.where(is_true, p, 0.0).sum(pixels)
  number = is_true.sum(pixels).astype(jnp.float32)
  score = 2 * both / jnp.maximum(p.sum(pixels) + number, 1e-7)
  return _mean_of_classes(1 - score, number > 0)


def lovasz(
  logits: Float[Array, "b h w k"],
  labels: Integer[Array, "b h w"],
  class_weights: Float[Array, "k"],
) -> Float[Array, ""]:
  """Lovász-softmax, mean over the classes that occur in the batch.

  The convex surrogate of 1 - IoU: the sorted errors of a class, times the
  gradient of the IoU with respect to each. Berman et al. 2018,
  arXiv:1705.08790.
  """
  index, pixel_mask = _masked(labels, class_weights)
  p = jax.nn.softmax(logits.astype(jnp.float32), -1)
  is_true = _is_true(index, pixel_mask, logits.shape[-1])
  # Ignored pixels have error 0 and are sorted last, without effect.
  errors = jnp.abs(is_true.astype(jnp.float32) - p)
  errors = jnp.where(pixel_mask[..., None], errors, 0.0)
  flat = (-1, logits.shape[-1])
  falling, is_true = jax.lax.sort(
    (-errors.reshape(flat), is_true.reshape(flat).astype(jnp.int32)),
    dimension=0,
    num_keys=1,
  )
  number = is_true.sum(0)
  # Pixel counts are integers, as float32 rounds them in large batches.
  cumulative = jnp.cumsum(is_true, 0)
  union = number + jnp.arange(1, len(is_true) + 1)[:, None] - cumulative
  jaccard = 1 - (number - cumulative) / jnp.maximum(union, 1)
  cost = jnp.diff(jaccard, axis=0, prepend=0.0)
  loss = (-falling * jax.lax.stop_gradient(cost)).sum(0)
  return _mean_of_classes(loss, number > 0)


def _index_of(labels, num_classes):
  """Labels as indices, and the mask of labels that are classes."""
  index = labels.astype(jnp.int32)
  is_class = (index >= 0) & (index < num_classes)
  return jnp.where(is_class, index, 0), is_class


def _masked(labels, class_weights):
  """Labels as indices, and the mask of pixels with a nonzero class weight."""
  index, is_class = _index_of(labels, class_weights.shape[0])
  return index, is_class & (class_weights[index] > 0)


def _is_true(
  index: Int[Array, "b h w"], pixel_mask: Bool[Array, "b h w"], num_classes: int
) -> Bool[Array, "b h w k"]:
  return (index[..., None] == jnp.arange(num_classes)) & pixel_mask[..., None]


@jax.custom_vjp
def _log_probability(logits, index):
  """Log-softmax of the class `index`, [b h w].

  The logits are the only large residual, read once in the backward pass, as
  memory bandwidth dominates on a CPU.
  """
  return _log_probability_forward(logits, index)[0]


def _log_probability_forward(logits, index):
  normaliser = jax.nn.logsumexp(logits, -1)
  of_class = jnp.take_along_axis(logits, index[..., None], -1)[..., 0]
  return of_class - normaliser, (logits, index, normaliser)


def _log_probability_backward(residuals, gradient):
  logits, index, normaliser = residuals
  p = jnp.exp(logits - normaliser[..., None])
  is_class = index[..., None] == jnp.arange(logits.shape[-1])
  return (is_class.astype(p.dtype) - p) * gradient[..., None], None


_log_probability.defvjp(_log_probability_forward, _log_probability_backward)


def _mean(pixel_loss, weight, total):
  """Weighted mean over the pixels."""
  if total is None:
    total = weight.sum()
  return (weight * pixel_loss).sum() / jnp.where(total > 0, total, 1)


def _mean_of_classes(loss, occurs):
  total = jnp.where(occurs, loss, 0.0).sum()
  return total / jnp.maximum(occurs.sum(), 1).astype(loss.dtype)


@dataclasses.dataclass(frozen=True)
class LossKind:
  """A loss: `function(logits, labels, class_weights, **options)`.

  Options are the fields of `config.loss.<name>` other than `weight`. An
  additive loss is a mean over pixels and takes its divisor `total`, so that the
  losses of parts of a batch add up to the loss of the batch, and gradients can
  be accumulated.
  """

  function: Loss
  is_additive: bool = False


# Losses by the name of their section in `config.loss`.
LOSSES: Mapping[str, LossKind] = {
  "cross_entropy": LossKind(weighted_cross_entropy, is_additive=True),
  "focal": LossKind(focal, is_additive=True),
  "dice": LossKind(dice),
  "lovasz": LossKind(lovasz),
}


def weighted(settings: Any) -> dict[str, LossKind]:
  """Returns the losses with a nonzero weight in a `loss` section, by name."""
  return {name: LOSSES[name] for name in LOSSES if settings[name].weight}


def build_loss(settings: Any) -> Loss:
  """Builds the loss of one output from a configuration's `loss` section.

  Returns:
    `loss(logits, labels, class_weights, total=None)`: the weighted sum of the
    losses with a nonzero weight.

  Raises:
    InputError: all weights are 0.
  """
  parts = []
  for name, kind in weighted(settings).items():
    options = dict(settings[name])
    weight = options.pop("weight")
    part = functools.partial(kind.function, **options)
    parts.append((weight, part, kind.is_additive))
  if not parts:
    raise InputError(
      "config.loss", f"a weight for any of {', '.join(LOSSES)}", "0 for all"
    )

  def loss(logits, labels, class_weights, total=None):
    return sum(
      weight
      * (
        part(logits, labels, class_weights, total)
        if is_additive
        else part(logits, labels, class_weights)
      )
      for weight, part, is_additive in parts
    )

  return loss
