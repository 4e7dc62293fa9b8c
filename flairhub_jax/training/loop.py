"""The training loop, from top to bottom."""

import contextlib
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import tqdm

from flairhub_jax import checkpoint, mesh, metrics, run_directory
from flairhub_jax.data import pipeline, records
from flairhub_jax.errors import InputError, StoppedEarly
from flairhub_jax.models import initialise
from flairhub_jax.training import (
  interruption,
  losses,
  optim,
  step,
  tracking,
)
from flairhub_jax.training.state import TrainState, init_state

Evaluate = Callable[[Mapping[str, Any]], Mapping[str, metrics.Scores]]


class NonFiniteLossError(RuntimeError):
  """The loss is no number any more; names the step and its patches."""


def resolve(config: Any, dataset: records.Dataset) -> Any:
  """Fills in what depends on the data: steps, sizes, metric, fingerprint.

  Raises:
    InputError: there is nothing to train on, or a value cannot be.
  """
  config = config.copy_and_resolve_references()
  if "train" not in dataset.splits:
    raise InputError(dataset.folder, "a train split", sorted(dataset.splits))
  num_patches = dataset.splits["train"].num_patches
  batch_size = config.data.batch_size
  mesh.local_batch_size(batch_size)
  with config.unlocked():
    config.data.fingerprint = dataset.fingerprint
    for modality in config.data.modalities:
      if modality in dataset.modalities:
        config.inputs[modality].pixels = dataset.modalities[modality].shape[-2]
    if config.train.num_steps is None:
      passes = config.train.num_epochs * num_patches
      config.train.num_steps = max(1, passes // batch_size)
    if config.train.validate_every is None:
      config.train.validate_every = max(1, num_patches // batch_size)
    if config.train.best_metric is None:
      config.train.best_metric = f"{config.data.tasks[0]}/miou"
  for name in (
    "num_steps", "validate_every", "save_every", "log_every",
    "keep_latest", "keep_best",
  ):  # fmt: skip
    if config.train[name] < 1:
      raise InputError(f"config.train.{name}", "at least 1", config.train[name])
  optim.build_optimizer(config.optim, config.train.num_steps)
  losses.build_loss(config.loss)
  if not 0 <= config.train.ema_decay < 1:
    raise InputError(
      "config.train.ema_decay", "0 to below 1", config.train.ema_decay
    )
  watches = "plateau" in config.optim.schedule or config.train.patience
  if watches and "valid" not in dataset.splits:
    raise InputError(
      dataset.folder, "a valid split to tell a plateau", sorted(dataset.splits)
    )
  names = [
    f"{task}/{name}" for task in config.data.tasks for name in metrics.AVERAGES
  ]
  if config.train.best_metric not in names:
    raise InputError(
      "config.train.best_metric",
      f"one of {', '.join(names)}",
      repr(config.train.best_metric),
    )
  return config


def train(
  config: Any,
  run: run_directory.RunDirectory,
  *,
  dataset: records.Dataset,
  model: Any,
  evaluate: Evaluate | None,
  initial_variables: Mapping[str, Any] | None = None,
) -> TrainState:
  """Trains `model`, or continues where the run was interrupted.

  Args:
    config: resolved configuration.
    run: where everything is written.
    dataset: converted data.
    model: the network, `apply(variables, batch, train=…)`.
    evaluate: scores by task of the network's variables on the validation
      split; None without one.
    initial_variables: the network's, where the run has no checkpoint yet;
      None draws them.

  Returns:
    The last state.

  Raises:
    NonFiniteLossError: training diverged; checkpoints hold the state before.
    StoppedEarly: a signal asked for it; the state is saved.
  """
  # ---- set up ----
  num_steps = config.train.num_steps
  devices = mesh.build_mesh()
  replicated = mesh.replicated(devices)
  reading = pipeline.build_reading(config)
  reader = pipeline.PatchReader(dataset, "train", reading)
  reading_order = dict(
    batch_size=mesh.local_batch_size(config.data.batch_size),
    seed=config.seed,
    augment=config.data.augment,
    num_workers=config.data.num_workers,
    process=(jax.process_index(), jax.process_count()),
  )
  optimizer, schedule = optim.build_optimizer(config.optim, num_steps)
  criterion = losses.build_criterion(
    config, dataset.splits["train"].class_counts
  )
  train_step = jax.jit(
    step.make_train_step(model, optimizer, criterion, config),
    donate_argnames="state",
    out_shardings=(replicated, replicated),
  )

  # ---- restore, or draw parameters ----
  variables = initial_variables
  if variables is None:
    example = pipeline.example_batch(reader, reading)
    variables = initialise.init_variables(model, example, seed=config.seed)
  state = init_state(
    variables,
    optimizer,
    jax.random.key(config.seed),
    has_ema=config.train.ema_decay > 0,
  )
  checkpoints = checkpoint.Checkpoints(
    run.checkpoints,
    keep_latest=config.train.keep_latest,
    keep_best=config.train.keep_best,
  )
  state, warnings = checkpoints.restore_latest(state, replicated)
  start_step = int(state.step)
  tracker = tracking.Tracker(run, start_step)
  for warning in warnings:
    tracking.logger.warning(warning)
    print(warning, file=sys.stderr)
  num_parameters = sum(x.size for x in jax.tree.leaves(state.params))
  tracking.logger.info(
    "step %d of %d, %d parameters, %d devices (%s)",
    start_step,
    num_steps,
    num_parameters,
    jax.device_count(),
    jax.default_backend(),
  )

  # ---- batch, step, log, save, evaluate ----
  batches = pipeline.train_batches(
    reader, reading, start_step=start_step, **reading_order
  )
  progress = tqdm.tqdm(
    total=num_steps, initial=start_step, unit="step", desc="train"
  )
  window, clock = [], tracking.Stopwatch()
  closing = contextlib.ExitStack()
  for one in (progress, tracker, checkpoints, batches):
    closing.callback(one.close)
  with closing, interruption.listen() as asked_to_stop:
    for number in range(start_step + 1, num_steps + 1):
      if number > run_directory.last_step(config, tracker.validations):
        break
      with clock.of("data"):
        batch = next(batches)
      state, step_metrics = train_step(state, mesh.place_batch(batch, devices))
      window.append((number, batch["patch"], step_metrics))
      progress.update()

      is_last = number == num_steps
      is_validation = number % config.train.validate_every == 0 or is_last
      stopping = None if is_last else asked_to_stop()
      is_save = (
        number % config.train.save_every == 0 or is_validation or stopping
      )
      if number % config.train.log_every == 0 or is_save:
        values = _read_window(window, dataset)
        seconds = clock.read()
        values["learning_rate"] = float(
          schedule(number - 1) * state.plateau.factor
        )
        stepping = seconds["seconds/data"] + seconds["seconds/compute"]
        values["patches_per_second"] = (
          len(window) * config.data.batch_size / stepping
        )
        tracker.write("train", number, values | seconds)
        progress.set_postfix(
          loss=f"{values['loss']:.3f}", lr=f"{values['learning_rate']:.1e}"
        )
        window = []

      best_metric = None
      if is_validation and evaluate is not None:
        with clock.of("evaluate"):
          scores = _flatten(evaluate(state.variables))
        best_metric = scores[config.train.best_metric]
        tracker.write("valid", number, scores)
        progress.write(
          f"step {number}: {config.train.best_metric} {best_metric:.2f}"
        )
        if optim.has_plateau(config.optim, number, num_steps):
          plateau = optim.after_validation(
            state.plateau, config.optim, best_metric
          )
          state = state.replace(plateau=jax.device_put(plateau, replicated))
      if is_save:
        with clock.of("save"):
          checkpoints.save(state, number, best_metric)
      if stopping:
        raise StoppedEarly(f"{stopping}: saved step {number}")
  return state


def _read_window(
  window: list[tuple[int, Any, Mapping[str, jax.Array]]],
  dataset: records.Dataset,
) -> dict[str, float]:
  """Fetches the metrics since the last log: the only wait for the device."""
  fetched = jax.device_get([step_metrics for _, _, step_metrics in window])
  for (number, patches, _), values in zip(window, fetched, strict=True):
    if not math.isfinite(values["loss"]):
      table = pipeline.PatchTable(dataset, "train")
      ids = ", ".join(table[i]["patch_id"] for i in patches)
      raise NonFiniteLossError(
        f"step {number}: the loss is {values['loss']}; patches {ids}"
      )
  return {
    name: float(sum(values[name] for values in fetched) / len(fetched))
    for name in fetched[0]
  }


def _flatten(scores: Mapping[str, metrics.Scores]) -> dict[str, float]:
  return {
    f"{task}/{name}": value
    for task, task_scores in scores.items()
    for name, value in task_scores.summary().items()
  }
