"""The optimiser and its learning rate over the steps."""

import math
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flairhub_jax.errors import InputError


def one_cycle(
  num_steps: int,
  peak: float,
  *,
  warmup_fraction: float,
  div_factor: float,
  final_div_factor: float,
) -> optax.Schedule:
  """Cosine up to the peak, cosine down: the values of torch's OneCycleLR.

  optax's own peaks a step later. Step 0 has peak / div_factor, step
  `warmup_fraction * num_steps - 1` the peak, the last one
  peak / div_factor / final_div_factor.
  """
  first, last = peak / div_factor, peak / div_factor / final_div_factor
  end_of_warmup = float(warmup_fraction * num_steps) - 1
  end = num_steps - 1

  def cosine(start: float, stop: float, share: Any) -> Float[Array, ""]:
    return stop + (start - stop) / 2 * (1 + jnp.cos(math.pi * share))

  def schedule(step: Any) -> Float[Array, ""]:
    step = jnp.asarray(step, jnp.float32)
    up = cosine(first, peak, step / max(end_of_warmup, 1e-9))
    rest = max(end - end_of_warmup, 1e-9)
    down = cosine(peak, last, jnp.minimum((step - end_of_warmup) / rest, 1))
    return jnp.where(step <= end_of_warmup, up, down)

  return schedule


def build_optimizer(
  optim: Any, num_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Builds the optimiser of a configuration's `optim` section.

  Weight decay acts on every parameter, as in the reference.

  Raises:
    InputError: an unknown name or a learning rate that is no positive number.
  """
  rate = optim.learning_rate
  if not (math.isfinite(rate) and rate > 0):
    raise InputError("config.optim.learning_rate", "a positive number", rate)
  if optim.name != "adamw":
    raise InputError("config.optim.name", "adamw", repr(optim.name))
  schedule = one_cycle(
    num_steps,
    rate,
    warmup_fraction=optim.warmup_fraction,
    div_factor=optim.div_factor,
    final_div_factor=optim.final_div_factor,
  )
  optimizer = optax.adamw(
    schedule,
    b1=optim.beta1,
    b2=optim.beta2,
    weight_decay=optim.weight_decay,
  )
  return optimizer, schedule
