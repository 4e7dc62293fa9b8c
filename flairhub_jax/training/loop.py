"""The training loop, from top to bottom."""

import contextlib
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import tqdm

from flairhub_jax import checkpoint, mesh, metrics, processes, run_directory
from flairhub_jax.data import pipeline, records
from flairhub_jax.errors import RunError, StoppedEarly
from flairhub_jax.models import initialise
from flairhub_jax.training import interruption, optim, step, tracking
from flairhub_jax.training.state import TrainState

Evaluate = Callable[[Mapping[str, Any]], Mapping[str, metrics.Scores]]
Draw = Callable[[Mapping[str, Any], pathlib.Path], None]


class NonFiniteLossError(RunError):
  """Loss or gradient is no number any more; names the step and its patches."""


def train(
  config: Any,
  run: run_directory.RunDirectory,
  *,
  dataset: records.Dataset,
  model: Any,
  evaluate: Evaluate | None,
  draw: Draw | None = None,
  initial_variables: Mapping[str, Any] | None = None,
  profiles: bool = False,
) -> TrainState:
  """Trains `model`, or continues where the run was interrupted.

  Args:
    config: resolved configuration.
    run: where everything is written.
    dataset: converted data.
    model: the network, `apply(variables, batch, train=…)`.
    evaluate: scores by task of the network's variables on the validation
      split; None without one.
    draw: draws maps of the validation split to a file; None: no maps.
    initial_variables: the network's, where the run has no checkpoint yet;
      None draws them.
    profiles: whether some steps are traced, into the run's `profile/`.

  Returns:
    The last state.

  Raises:
    NonFiniteLossError: training diverged; checkpoints hold the state before.
    StoppedEarly: a signal asked for it; the state is saved.
  """
  # ---- set up ----
  num_steps = config.train.num_steps
  devices = mesh.build_mesh(**config.mesh)
  reading = pipeline.build_reading(config)
  reader = pipeline.PatchReader(dataset, "train", reading)
  reading_order = dict(
    batch_size=mesh.local_batch_size(config.data.batch_size),
    seed=config.seed,
    augment=config.data.augment,
    num_workers=config.data.num_workers,
    process=(jax.process_index(), jax.process_count()),
  )

  # ---- restore, or draw parameters ----
  variables = initial_variables
  if variables is None:
    example = pipeline.example_batch(reader, reading)
    variables = initialise.init_variables(model, example, seed=config.seed)
  state, train_step, schedule = step.prepare(
    config, model, variables, devices, dataset.splits["train"].class_counts
  )
  checkpoints = checkpoint.Checkpoints(
    run.checkpoints,
    keep_latest=config.train.keep_latest,
    keep_best=config.train.keep_best,
  )
  state, warnings = checkpoints.restore_latest(state, train_step.shardings)
  start_step = int(state.step)
  tracker = tracking.Tracker(run, start_step)
  for line in (*warnings, *_opening(config, state, devices, dataset)):
    tracker.tell(line)

  # ---- batch, step, log, save, evaluate ----
  batches = pipeline.train_batches(
    reader, reading, start_step=start_step, **reading_order
  )
  progress = tqdm.tqdm(
    total=num_steps,
    initial=start_step,
    unit="step",
    desc="train",
    disable=not processes.is_first(),
  )
  window, clock = [], tracking.Stopwatch()
  trace = tracking.Trace(run.profile if profiles else None, start_step)
  closing = contextlib.ExitStack()
  for one in (progress, tracker, checkpoints, batches, trace):
    closing.callback(one.close)
  with closing, interruption.listen() as asked_to_stop:
    for number in range(start_step + 1, num_steps + 1):
      if number > run_directory.last_step(config, tracker.validations):
        break
      trace.before(number)
      with clock.of("data"):
        batch = next(batches)
      on_devices = mesh.place_batch(batch, devices)
      with clock.of("compile"):
        if report := train_step.compile(state, on_devices):
          tracker.tell(report)
      state, step_metrics = train_step(state, on_devices)
      window.append((number, batch["patch"], step_metrics))
      progress.update()

      is_last = number == num_steps
      is_validation = number % config.train.validate_every == 0 or is_last
      is_log = number % config.train.log_every == 0
      stopping = None if is_last else asked_to_stop(is_log)
      is_save = (
        number % config.train.save_every == 0 or is_validation or stopping
      )
      if is_log or is_save:
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
        progress.set_postfix_str(
          f"{values['patches_per_second']:.1f} patches/s, loss"
          f" {values['loss']:.3f}, rate {values['learning_rate']:.1e}"
        )
        window = []

      best_metric = None
      if is_validation and evaluate is not None:
        with clock.of("evaluate"):
          scores = _flatten(evaluate(state.variables))
          if draw is not None:
            picture = run.results("valid") / f"maps_{number:07d}.png"
            draw(state.variables, picture)
            tracker.write_picture("valid/maps", number, picture)
        best_metric = scores[config.train.best_metric]
        tracker.write("valid", number, scores)
        tracker.tell(
          f"step {number}: {config.train.best_metric} {best_metric:.2f}"
        )
        if optim.has_plateau(config.optim, number, num_steps):
          plateau = optim.after_validation(
            state.plateau, config.optim, best_metric
          )
          everywhere = train_step.shardings.plateau
          state = state.replace(plateau=mesh.place_state(plateau, everywhere))
      if is_save:
        with clock.of("save"):
          checkpoints.save(state, number, best_metric)
      if stopping:
        raise StoppedEarly(f"{stopping}: saved step {number}")
  return state


def _opening(config, state, devices, dataset):
  """What a run says of itself before it begins."""
  num_parameters = sum(x.size for x in jax.tree.leaves(state.params))
  yield (
    f"step {int(state.step)} of {config.train.num_steps}, {num_parameters}"
    f" parameters, {mesh.describe(devices)}"
  )
  yield mesh.describe_numbers(
    devices,
    dtype=config.dtype,
    precision=config.matmul_precision,
    deterministic=config.deterministic,
  )
  valid, batch_size = dataset.splits.get("valid"), config.data.batch_size
  if valid and valid.num_patches < batch_size:
    yield (
      f"the valid split has {valid.num_patches} patches, fewer than a batch of"
      f" {batch_size}: filled up with some that do not count"
    )


def _read_window(
  window: list[tuple[int, Any, Mapping[str, jax.Array]]],
  dataset: records.Dataset,
) -> dict[str, float]:
  """Fetches the metrics since the last log: the only wait for the device."""
  fetched = jax.device_get([step_metrics for _, _, step_metrics in window])
  for (number, patches, _), values in zip(window, fetched, strict=True):
    # A gradient that is no number spoils the parameters a step before the loss.
    for name in ("loss", "gradient_norm"):
      if not math.isfinite(values[name]):
        table = pipeline.PatchTable(dataset, "train")
        ids = ", ".join(table[i]["patch_id"] for i in patches)
        raise NonFiniteLossError(
          f"step {number}: {name} is {values[name]}; checkpoints are of the"
          f" steps before; patches {ids}"
        )
  return {
    name: float(sum(values[name] for values in fetched) / len(fetched))
    for name in fetched[0]
  }


def _flatten(scores: Mapping[str, metrics.Scores]) -> dict[str, float]:
  flat = {}
  for task, found in scores.items():
    averages = found.summary()
    values = [averages[name] for name in metrics.AVERAGES] + found.iou.tolist()
    names = metrics.score_names(task, found.classes)
    flat |= dict(zip(names, values, strict=True))
  return flat
