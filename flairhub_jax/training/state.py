"""The training state: everything that must survive a restart."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Key

from flairhub_jax.array_type import Array
from flairhub_jax.training import optim


@flax.struct.dataclass
class TrainState:
  """The training state; its step is also the position in the data.

  Attributes:
    step: int32 [], number of updates applied.
    params: the network's parameters.
    batch_stats: running statistics of batch normalisation.
    opt_state: the optimiser's state.
    rng: base key; step n uses `fold_in(rng, n)`.
    ema: exponential moving average of the parameters; {} if disabled.
    plateau: state of the learning rate reduction.
  """

  # Any, as trees of shardings have the same class.
  step: Any
  params: Any
  batch_stats: Any
  opt_state: Any
  rng: Any
  ema: Any
  plateau: optim.Plateau

  @property
  def variables(self) -> dict[str, Any]:
    """Variables for `Segmenter.apply`, with averaged parameters if enabled."""
    return {
      "params": self.ema or self.params,
      "batch_stats": self.batch_stats,
    }


def init_state(
  variables: Mapping[str, Any],
  optimizer: optax.GradientTransformation,
  rng: Key[Array, ""],
  *,
  has_ema: bool = False,
) -> TrainState:
  """Returns the state before the first update, with moments on the host.

  Host arrays need no compiled program per shape, nor the memory of one device
  for a state that will be sharded.
  """
  params = variables["params"]
  # The state of all optimisers of `optim` is initially zero.
  moments = jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(optimizer.init, params),
  )
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=variables.get("batch_stats", {}),
    opt_state=moments,
    rng=rng,
    # A copy, as the step donates both.
    ema=jax.tree.map(np.array, params) if has_ema else {},
    plateau=optim.no_plateau(),
  )
