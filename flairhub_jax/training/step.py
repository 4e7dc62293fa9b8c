"""One update: a pure function of state and batch."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from flairhub_jax.training import losses, optim
from flairhub_jax.training.state import TrainState

TrainStep = Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
  model: Any,
  optimizer: optax.GradientTransformation,
  criterion: losses.Criterion,
  config: Any,
) -> TrainStep:
  """Returns `train_step(state, batch) -> (state, metrics)`, to be jitted.

  The metrics are scalars: `loss`, `loss/<task>`, `gradient_norm`.
  """

  def train_step(state: TrainState, batch: Any):
    rng = jax.random.fold_in(state.rng, state.step)

    def loss_fn(params):
      outputs, updates = model.apply(
        {
          "params": optim.freeze(params, config.optim),
          "batch_stats": state.batch_stats,
        },
        batch,
        train=True,
        rngs={"dropout": rng},
        mutable=["batch_stats"],
      )
      loss, parts = criterion(outputs, batch["labels"])
      return loss, (parts, updates.get("batch_stats", {}))

    (loss, (parts, batch_stats)), gradients = jax.value_and_grad(
      loss_fn, has_aux=True
    )(state.params)
    updates, opt_state = optimizer.update(
      gradients, state.opt_state, state.params
    )
    updates = optax.tree.scale(state.plateau.factor, updates)
    metrics = {
      "loss": loss,
      **{f"loss/{name}": value for name, value in parts.items()},
      "gradient_norm": optax.tree.norm(gradients),
    }
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if config.train.ema_decay:
      ema = optax.incremental_update(params, ema, 1 - config.train.ema_decay)
    state = state.replace(
      step=state.step + 1,
      params=params,
      ema=ema,
      batch_stats=batch_stats,
      opt_state=opt_state,
    )
    return state, metrics

  return train_step
