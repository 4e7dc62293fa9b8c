"""Optimiser and learning rate: schedule, plateaus, factors by layer."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.errors import InputError


def one_cycle(
  num_steps: int,
  peak: float,
  *,
  warmup_fraction: float,
  div_factor: float,
  final_div_factor: float,
) -> optax.Schedule:
  """Cosine warm-up to the peak and cosine decay, as PyTorch's OneCycleLR.

  optax's version peaks one step later. Step 0 has peak / div_factor, step
  `warmup_fraction * num_steps - 1` the peak, the last step
  peak / div_factor / final_div_factor.
  """
  first, last = peak / div_factor, peak / div_factor / final_div_factor
  end_of_warmup = float(warmup_fraction * num_steps) - 1
  end = num_steps - 1

  def cosine(start: float, stop: float, fraction: Any) -> Float[Array, ""]:
    return stop + (start - stop) / 2 * (1 + jnp.cos(math.pi * fraction))

  def schedule(step: Any) -> Float[Array, ""]:
    step = jnp.asarray(step, jnp.float32)
    up = cosine(first, peak, step / max(end_of_warmup, 1e-9))
    rest = max(end - end_of_warmup, 1e-9)
    down = cosine(peak, last, jnp.minimum((step - end_of_warmup) / rest, 1))
    return jnp.where(step <= end_of_warmup, up, down)

  return schedule


def _constant(optim: Any, num_steps: int) -> optax.Schedule:
  return optax.constant_schedule(optim.learning_rate)


def _one_cycle(optim: Any, num_steps: int) -> optax.Schedule:
  return one_cycle(
    num_steps,
    optim.learning_rate,
    warmup_fraction=optim.warmup_fraction,
    div_factor=optim.div_factor,
    final_div_factor=optim.final_div_factor,
  )


def _cosine(optim: Any, num_steps: int) -> optax.Schedule:
  """Linear warm-up to the peak, cosine decay to 0."""
  warmup = warmup_steps(optim, num_steps)
  return optax.warmup_cosine_decay_schedule(
    0.0, optim.learning_rate, warmup, max(num_steps, warmup + 1)
  )


def _cycle(optim: Any, num_steps: int) -> optax.Schedule:
  """The warm-up of one cycle, then constant until reduced on a plateau."""
  warmup = warmup_steps(optim, num_steps)
  rise = one_cycle(
    max(warmup, 1),
    optim.learning_rate,
    warmup_fraction=1.0,
    div_factor=optim.div_factor,
    final_div_factor=1.0,
  )
  return lambda step: jnp.where(
    step < warmup, rise(jnp.minimum(step, warmup - 1)), optim.learning_rate
  )


_SCHEDULES: Mapping[str, Callable[[Any, int], optax.Schedule]] = {
  "one_cycle": _one_cycle,
  "cosine": _cosine,
  "constant": _constant,
  "reduce_on_plateau": _constant,
  "cycle_then_plateau": _cycle,
}


def warmup_steps(optim: Any, num_steps: int) -> int:
  """Steps of the warm-up, rounded down as in the reference."""
  return int(optim.warmup_fraction * num_steps)


# ---- plateaus ---------------------------------------------------------------


@flax.struct.dataclass
class Plateau:
  """State of a learning rate that is reduced on plateaus; all are scalars.

  Attributes:
    factor: of the schedule's learning rate.
    best: highest score so far.
    stale: number of validations without improvement.
    rest: remaining validations of the cooldown after a reduction.
  """

  factor: Any
  best: Any
  stale: Any
  rest: Any


def no_plateau() -> Plateau:
  """The state before the first validation."""
  return Plateau(
    factor=jnp.ones(()),
    best=jnp.full((), -jnp.inf),
    stale=jnp.zeros((), jnp.int32),
    rest=jnp.zeros((), jnp.int32),
  )


def has_plateau(optim: Any, step: int, num_steps: int) -> bool:
  """Whether a validation after `step` updates may reduce the rate."""
  if optim.schedule == "cycle_then_plateau":
    return step >= warmup_steps(optim, num_steps)
  return optim.schedule == "reduce_on_plateau"


def after_validation(plateau: Plateau, optim: Any, score: float) -> Plateau:
  """Updates the state with a score (higher is better).

  As PyTorch's ReduceLROnPlateau, with its relative threshold of 1e-4. The
  reference monitors the validation loss; this monitors the score that selects
  the best checkpoint.
  """
  settings = optim.plateau
  factor, best = float(plateau.factor), float(plateau.best)
  stale, rest = int(plateau.stale), int(plateau.rest)
  margin = 1e-4 * abs(best) if math.isfinite(best) else 0.0
  if score > best + margin:
    best, stale = score, 0
  else:
    stale += 1
  if rest:
    rest, stale = rest - 1, 0
  if stale > settings.patience:
    least = settings.min_rate / optim.learning_rate
    factor = min(factor, max(settings.factor * factor, least))
    rest, stale = settings.cooldown, 0
  return Plateau(
    factor=np.float32(factor),
    best=np.float32(best),
    stale=np.int32(stale),
    rest=np.int32(rest),
  )


# ---- learning rate by layer -------------------------------------------------

# Modules of an image encoder that belong to a stage.
_STAGE = re.compile(r"(stage|merge|layer)_(\d+)")
_NUM_STAGES = 4


def rate_factor(
  path: tuple[str, ...], optim: Any, series: Collection[str]
) -> float:
  """Returns the learning rate factor of a parameter.

  For encoders it is `optim.encoder_rates` of the modality; in image encoders
  also a factor `layer_decay` for each stage above the parameter. The stem is
  the lowest stage, the decoder the highest.

  Args:
    path: names from the network to the parameter.
    optim: section of the configuration.
    series: ids of the time series, whose U-TAE has no such stages.
  """
  prefix, _, modality = path[0].partition("_")
  if prefix != "encoder":
    return 1.0
  factor = optim.encoder_rates.get(modality, 1.0)
  if modality in series:
    return factor
  match = _STAGE.match(path[1])
  stage = -1
  if match:
    # Stages of ResNet are numbered from 1.
    stage = int(match[2]) - (match[1] == "layer")
  return factor * optim.layer_decay ** (_NUM_STAGES - stage)


def _names(path: Any) -> tuple[str, ...]:
  return tuple(str(key.key) for key in path)


def freeze(params: Any, optim: Any) -> Any:
  """Stops gradients of parameters with rate 0, which need no backward pass."""

  def stop(path, x):
    # Only encoder rates can be 0, so layer decay does not matter.
    is_frozen = rate_factor(_names(path), optim, ()) == 0
    return jax.lax.stop_gradient(x) if is_frozen else x

  return jax.tree_util.tree_map_with_path(stop, params)


def _scale_by_layer(
  optim: Any, series: Collection[str]
) -> optax.GradientTransformation:
  return optax.stateless(
    lambda updates, params: jax.tree_util.tree_map_with_path(
      lambda path, x: x * rate_factor(_names(path), optim, series), updates
    )
  )


# ---- the optimiser ----------------------------------------------------------


def _adam(optim: Any) -> list[optax.GradientTransformation]:
  """As in PyTorch, weight decay is part of the gradient."""
  return [
    optax.add_decayed_weights(optim.weight_decay),
    optax.scale_by_adam(optim.beta1, optim.beta2),
  ]


def _adamw(optim: Any) -> list[optax.GradientTransformation]:
  return [
    optax.scale_by_adam(optim.beta1, optim.beta2),
    optax.add_decayed_weights(optim.weight_decay),
  ]


def _lamb(optim: Any) -> list[optax.GradientTransformation]:
  return [
    optax.scale_by_adam(optim.beta1, optim.beta2, eps=1e-6),
    optax.add_decayed_weights(optim.weight_decay),
    optax.scale_by_trust_ratio(),
  ]


def _lion(optim: Any) -> list[optax.GradientTransformation]:
  return [
    optax.scale_by_lion(optim.beta1, optim.beta2),
    optax.add_decayed_weights(optim.weight_decay),
  ]


def _sgd(optim: Any) -> list[optax.GradientTransformation]:
  """Without weight decay, as in the reference; with optional momentum."""
  return [optax.trace(optim.momentum)] if optim.momentum else []


_OPTIMIZERS = {
  "adamw": _adamw,
  "adam": _adam,
  "sgd": _sgd,
  "lamb": _lamb,
  "lion": _lion,
}


def build_optimizer(
  optim: Any, num_steps: int, *, series: Collection[str] = ()
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Builds the optimiser of a configuration's `optim` section.

  Gradients are clipped to `clip_norm` first; weight decay acts on every
  parameter, as in the reference.

  Args:
    optim: section of the configuration.
    num_steps: of the whole training.
    series: see `rate_factor`.

  Raises:
    InputError: an unknown name.
  """
  for field, table in (("name", _OPTIMIZERS), ("schedule", _SCHEDULES)):
    if optim[field] not in table:
      raise InputError(
        f"config.optim.{field}",
        f"one of {', '.join(table)}",
        repr(optim[field]),
      )
  schedule = _SCHEDULES[optim.schedule](optim, num_steps)
  clip = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
  return (
    optax.chain(
      *clip,
      *_OPTIMIZERS[optim.name](optim),
      _scale_by_layer(optim, series),
      optax.scale_by_learning_rate(schedule),
    ),
    schedule,
  )
