"""The training step: a pure function of state and batch, compiled per shape."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flairhub_jax import mesh
from flairhub_jax.errors import InputError
from flairhub_jax.models import flop_count
from flairhub_jax.training import class_counts as class_counts_lib
from flairhub_jax.training import criterion as criterion_lib
from flairhub_jax.training import optim
from flairhub_jax.training.state import TrainState, init_state

TrainStep = Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
  model: Any,
  optimizer: optax.GradientTransformation,
  criterion: criterion_lib.Criterion,
  config: Any,
  devices: jax.sharding.Mesh,
) -> TrainStep:
  """Returns `train_step(state, batch) -> (state, metrics)`, to be jitted.

  The metrics are scalars: `loss`, `loss/<task>`, `gradient_norm`.
  """
  differentiate = _make_gradient(
    _make_forward(model, config, devices), criterion, config
  )

  def train_step(state: TrainState, batch: Any):
    key = jax.random.fold_in(state.rng, state.step)
    params = jax.lax.with_sharding_constraint(
      state.params, mesh.replicated(devices)
    )
    (loss, (parts, batch_stats)), gradients = differentiate(
      params, state.batch_stats, batch, key
    )
    gradients = jax.lax.with_sharding_constraint(
      gradients, mesh.split_state(gradients, devices)
    )
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
    state = dataclasses.replace(
      state,
      step=state.step + 1,
      params=params,
      ema=ema,
      batch_stats=batch_stats,
      opt_state=opt_state,
    )
    return state, metrics

  return train_step


def _make_forward(model, config, devices):
  """Returns `(variables, batch, key) -> (outputs, batch statistics)`."""

  def forward(variables, batch, key):
    outputs, updates = model.apply(
      variables,
      batch,
      train=True,
      rngs={"dropout": key},
      mutable=["batch_stats"],
    )
    return outputs, updates.get("batch_stats", {})

  if config.train.batch_statistics == "global" or devices.size == 1:
    return forward

  def forward_of_device(variables, batch, key):
    key = jax.random.fold_in(key, jax.lax.axis_index(devices.axis_names))
    outputs, batch_stats = forward(variables, batch, key)
    # Learned task weights have no batch axis.
    weights = {k: outputs.pop(k) for k in ["log_variance"] if k in outputs}
    # Running statistics are averaged over devices.
    batch_stats = jax.tree.map(
      lambda x: jax.lax.pmean(x, devices.axis_names).astype(x.dtype),
      batch_stats,
    )
    return outputs, weights, batch_stats

  replicated, split = jax.P(), jax.P(devices.axis_names)
  by_device = jax.shard_map(
    forward_of_device,
    mesh=devices,
    in_specs=(replicated, split, replicated),
    out_specs=(split, replicated, replicated),
    check_vma=False,
  )

  def forward_by_device(variables, batch, key):
    outputs, weights, batch_stats = by_device(variables, batch, key)
    return outputs | weights, batch_stats

  return forward_by_device


def _make_gradient(forward, criterion, config):
  """Returns a function for loss, parts, batch statistics and gradient."""

  def loss_fn(params, batch_stats, batch, key, totals=None):
    params = optim.freeze(params, config.optim)
    outputs, batch_stats = forward(
      {"params": params, "batch_stats": batch_stats}, batch, key
    )
    loss, parts = criterion(outputs, batch["labels"], totals)
    return loss, (parts, batch_stats)

  differentiate = jax.value_and_grad(loss_fn, has_aux=True)
  num_parts = config.train.accumulation
  if num_parts == 1:
    return differentiate

  def accumulate(params, batch_stats, batch, key):
    # The mean over parts is the mean over all pixels of the batch.
    totals = {
      task: total / num_parts
      for task, total in criterion.totals(batch["labels"]).items()
    }

    def add(carry, part):
      gradients, batch_stats = carry
      number, batch = part
      (loss, (parts, batch_stats)), own = differentiate(
        params,
        batch_stats,
        batch,
        jax.random.fold_in(key, number),
        totals,
      )
      gradients = jax.tree.map(
        lambda total, x: total + x / num_parts, gradients, own
      )
      return (gradients, batch_stats), (loss, parts)

    start = jax.tree.map(jnp.zeros_like, params), batch_stats
    numbered = jnp.arange(num_parts), _split(batch, num_parts)
    (gradients, batch_stats), values = jax.lax.scan(add, start, numbered)
    loss, parts = jax.tree.map(lambda x: x.mean(0), values)
    return (loss, (parts, batch_stats)), gradients

  return accumulate


def _split(batch, num_parts):
  """Reshapes [b …] to [parts b/parts …]; each device splits its own rows."""
  return jax.tree.map(
    lambda x: x.reshape(-1, num_parts, *x.shape[1:]).swapaxes(0, 1), batch
  )


class CompiledStep:
  """A training step, compiled ahead of time for each batch shape.

  Attributes:
    shardings: of each array of the state.
  """

  def __init__(
    self, train_step: TrainStep, shardings: Any, *, deterministic: bool = False
  ):
    """Prepares the compilation.

    Args:
      train_step: from `make_train_step`; its state is donated.
      shardings: of each array of the state.
      deterministic: see `mesh.compiler_options`.
    """
    self.shardings = shardings
    replicated = mesh.replicated(shardings.step.mesh)
    self._jitted = jax.jit(
      train_step,
      donate_argnames="state",
      out_shardings=(shardings, replicated),
      compiler_options=mesh.compiler_options(deterministic),
    )
    self._programs: dict[Any, jax.stages.Compiled] = {}

  def __call__(self, state: TrainState, batch: Any):
    """Returns the new state and the metrics, dispatched asynchronously."""
    self.compile(state, batch)
    return self.program(batch)(state, batch)

  def compile(self, state: TrainState, batch: Any) -> str | None:
    """Compiles the step for batches of this shape, unless already compiled.

    The state and the batch may be shapes, as from `mesh.place_shapes`.

    Returns:
      A line for the log with compile time and memory; None if already compiled.

    Raises:
      InputError: the step, together with the next batch, needs more memory than
        the device has.
    """
    if _shapes(batch) in self._programs:
      return None
    start = time.monotonic()
    try:
      shapes = mesh.place_shapes(state, self.shardings)
      program = self._jitted.lower(shapes, batch).compile()
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      raise _too_large(batch, str(error).splitlines()[0]) from error
    self._programs[_shapes(batch)] = program
    need, limit = needed_bytes(program) + _bytes_placed(batch), device_bytes()
    if limit and need > limit:
      raise _too_large(batch, f"{need / 1e9:.1f} of {limit / 1e9:.1f} GB")
    return (
      f"compiled program {len(self._programs)} in"
      f" {time.monotonic() - start:.0f} s{_lengths(batch)}; it needs"
      f" {need / 1e9:.2f} GB"
      + (f" of {limit / 1e9:.0f}" if limit else "")
      + " per device"
    )

  def program(self, batch: Any) -> jax.stages.Compiled:
    """Returns the compiled step for batches of this shape."""
    return self._programs[_shapes(batch)]

  def flops(self, state: TrainState, batch: Any) -> float:
    """Counts the FLOPs of a step, over all devices."""
    return flop_count.count(self._jitted, state, batch)


def _shapes(batch):
  return tuple(x.shape for x in jax.tree.leaves(batch))


def _lengths(batch):
  """Lengths of the series of a batch, for the log."""
  dates = {name: x.shape[1] for name, x in batch.get("dates", {}).items()}
  if not dates:
    return ""
  listed = ", ".join(f"{number} of {name}" for name, number in dates.items())
  return f" for up to {listed} dates"


def _bytes_placed(batch):
  """Bytes of a batch on each device."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(batch)
  )


def prepare(
  config: Any,
  model: Any,
  variables: Mapping[str, Any],
  devices: jax.sharding.Mesh,
  class_counts: Mapping[str, Sequence[int]],
) -> tuple[TrainState, CompiledStep, optax.Schedule]:
  """Builds the initial state and the training step.

  Args:
    config: resolved configuration.
    model: the network.
    variables: its parameters and running statistics.
    devices: from `mesh.build_mesh`.
    class_counts: number of training pixels by task and class of the schema;
      tasks without counts have no entry.

  Returns:
    The state before the first update, on the host; the step; the learning rate
    schedule.
  """
  optimizer, schedule = optim.build_optimizer(
    config.optim,
    config.train.num_steps,
    series=[
      name
      for name in config.data.modalities
      if config.schema.sensors[name].is_series
    ],
  )
  criterion = criterion_lib.build_criterion(
    config, class_counts_lib.of_merged(config, class_counts)
  )
  state = init_state(
    variables,
    optimizer,
    jax.random.key(config.seed),
    has_ema=config.train.ema_decay > 0,
  )
  train_step = CompiledStep(
    make_train_step(model, optimizer, criterion, config, devices),
    mesh.split_state(state, devices),
    deterministic=config.deterministic,
  )
  return state, train_step, jax.jit(schedule)


def needed_bytes(program: jax.stages.Compiled) -> int:
  """Device memory that a program needs, arguments included."""
  memory = program.memory_analysis()
  if memory is None:
    return 0
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )


def device_bytes() -> int:
  """Memory of a device; 0 if the backend does not report it (CPUs)."""
  return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)


def _too_large(batch, found):
  return InputError(
    "config.data.batch_size",
    "a step that fits the device (or try config.train.accumulation,"
    " config.model.remat='block', config.dtype='bfloat16')",
    f"{batch['sample_mask'].shape[0]} patches: {found}",
  )
