"""The training loop."""

import contextlib
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from flairhub_jax import (
  checkpoint,
  configuration,
  mesh,
  metrics,
  processes,
  run_directory,
  terminal,
)
from flairhub_jax.data import augmentation, pipeline, records
from flairhub_jax.errors import RunError, StoppedEarly
from flairhub_jax.models import initialise
from flairhub_jax.schema import LabelTask
from flairhub_jax.training import interruption, optim, step, tracking
from flairhub_jax.training.state import TrainState

Evaluate = Callable[[Mapping[str, Any]], Mapping[str, metrics.Scores]]
Draw = Callable[[Mapping[str, Any], pathlib.Path], None]


class NonFiniteLossError(RunError):
  """The loss or gradient is NaN or infinite; names the step and its patches."""


def train(
  config: Any,
  run: run_directory.RunDirectory,
  *,
  dataset: records.Dataset,
  model: Any,
  evaluate: Evaluate | None,
  draw: Draw | None = None,
  initial_variables: Mapping[str, Any] | None = None,
  notes: Sequence[str] = (),
  profiles: bool = False,
) -> TrainState:
  """Trains `model`, or continues an interrupted run.

  Args:
    config: resolved configuration.
    run: directory of a new run, or of an unfinished one with this
      configuration; first written to when the largest program fits the device.
    dataset: converted data.
    model: the network, `apply(variables, batch, train=…)`.
    evaluate: returns scores by task on the validation split; None without one.
    draw: draws maps of the validation split to a file; None: no maps.
    initial_variables: of a run without a checkpoint; None: drawn from the seed.
    notes: first lines of the log.
    profiles: whether to trace some steps to `profile/` of the run.

  Returns:
    The final state.

  Raises:
    InputError: a step needs more memory than the device has, or the run has
      another configuration; nothing is written.
    NonFiniteLossError: training diverged; checkpoints are of earlier steps.
    StoppedEarly: stopped by a signal; the state is saved.
  """
  num_steps, tasks = config.train.num_steps, configuration.label_tasks(config)
  devices = mesh.build_mesh(**config.mesh)
  options = pipeline.build_read_options(config)
  reader = pipeline.PatchReader(dataset, "train", options)
  augment = augmentation.build_augmentation(config, dataset)

  # ---- draw parameters, compile the largest program ----
  variables, example = initial_variables, pipeline.example_batch(reader)
  if variables is None:
    variables = initialise.init_variables(model, example, seed=config.seed)
  state, train_step, schedule = step.prepare(
    config, model, variables, devices, dataset.splits["train"].class_counts
  )
  example = augment.resize(example)
  largest = mesh.batch_shapes(example, config.data.batch_size, devices)
  report = None
  if not run.config.exists():
    report = train_step.compile(state, largest)

  # ---- begin or continue the run ----
  checkpoints = _open_run(run, config)
  state, warnings = checkpoints.restore_latest(state, train_step.shardings)
  start_step = int(state.step)
  tracker = tracking.Tracker(run, start_step)
  if report is None and start_step < num_steps:
    report = train_step.compile(state, largest)
  opening = _opening(config, state, devices, dataset, reader.padding)
  for line in (*warnings, *notes, *opening, *filter(None, [report])):
    tracker.log(line)

  # ---- batch, step, log, save, evaluate ----
  batches = pipeline.train_batches(
    reader,
    batch_size=mesh.local_batch_size(config.data.batch_size),
    seed=config.seed,
    augment=augment,
    start_step=start_step,
    num_workers=config.data.num_workers,
    process=(jax.process_index(), jax.process_count()),
  )
  progress = terminal.progress_bar(
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
  placed = None
  with interruption.listen() as stop_signal, closing:
    for number in range(start_step + 1, num_steps + 1):
      if number > run_directory.last_step(config, tracker.validations):
        break
      trace.before(number)
      is_last = number == num_steps
      batch, on_devices = placed or _place_next(batches, devices, clock)
      with clock.of("compile"):
        if report := train_step.compile(state, on_devices):
          tracker.log(f"step {number}: {report}")
      state, step_metrics = train_step(state, on_devices)
      window.append((number, batch["patch"], step_metrics))
      # The next batch is placed while this step runs, but only after the
      # previous one: at most two batches are in device memory.
      if len(window) > 1:
        jax.block_until_ready(window[-2][2])
      placed = None if is_last else _place_next(batches, devices, clock)
      progress.update()

      is_validation = number % config.train.validate_every == 0 or is_last
      is_log = number % config.train.log_every == 0
      stopping = None if is_last else stop_signal(is_log)
      is_save = (
        number % config.train.save_every == 0 or is_validation or stopping
      )
      if is_log or is_save:
        rate = float(schedule(number - 1) * state.plateau.factor)
        values = _read_window(window, dataset) | {"learning_rate": rate}
        values |= clock.read(len(window) * config.data.batch_size)
        tracker.write("train", number, values)
        progress.set_postfix_str(
          f"{values['patches_per_second']:.1f} patches/s, loss"
          f" {values['loss']:.3f}, rate {rate:.1e}",
          refresh=False,
        )
        window = []

      best_metric = None
      if is_validation and evaluate is not None:
        with clock.of("evaluate"):
          scores = _flatten(evaluate(state.variables), tasks)
          if draw is not None:
            image = run.results("valid") / f"maps_{number:07d}.png"
            draw(state.variables, image)
            tracker.write_image("valid/maps", number, image)
        best_metric = scores[config.train.best_metric]
        tracker.write("valid", number, scores)
        tracker.log(
          f"step {number}: {config.train.best_metric} {best_metric:.2f}"
        )
        if optim.has_plateau(config.optim, number, num_steps):
          plateau = optim.after_validation(
            state.plateau, config.optim, best_metric
          )
          replicated = train_step.shardings.plateau
          state = state.replace(plateau=mesh.place_state(plateau, replicated))
      if is_save:
        with clock.of("save"):
          checkpoints.save(state, number, best_metric)
      if stopping:
        raise StoppedEarly(f"{stopping}: saved step {number}")
  return state


def _open_run(run, config):
  """Starts or continues the run; returns its checkpoints."""
  processes.main_process_first(
    lambda: run_directory.start_or_continue(run.path, config)
  )
  return checkpoint.Checkpoints(
    run.checkpoints,
    keep_latest=config.train.keep_latest,
    keep_best=config.train.keep_best,
  )


def _place_next(batches, devices, clock):
  """Returns the next batch, on the host and on the devices."""
  with clock.of("data"):
    batch = next(batches)
  with clock.of("place"):
    return batch, mesh.place_batch(batch, devices)


def _opening(config, state, devices, dataset, padding):
  """Yields the first log lines of a run."""
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
  if padding.longest:
    yield (
      f"series are padded to one of {len(padding.choices)} sets of lengths per"
      f" batch, one program each: {', '.join(map(_listed, padding.choices))}"
    )
  valid, batch_size = dataset.splits.get("valid"), config.data.batch_size
  if valid and valid.num_patches < batch_size:
    yield (
      f"the valid split has {valid.num_patches} patches, fewer than a batch of"
      f" {batch_size}: padded with patches that are not scored"
    )


def _listed(lengths):
  return " + ".join(f"{number} {name}" for name, number in lengths.items())


def _read_window(
  window: list[tuple[int, Any, Mapping[str, jax.Array]]],
  dataset: records.Dataset,
) -> dict[str, float]:
  """Fetches the metrics since the last log; the only device synchronisation."""
  fetched = jax.device_get([step_metrics for _, _, step_metrics in window])
  for (number, patches, _), values in zip(window, fetched, strict=True):
    # The loss is NaN only one step after the gradient.
    for name in ("loss", "gradient_norm"):
      if not math.isfinite(values[name]):
        table = pipeline.PatchTable(dataset, "train")
        ids = ", ".join(table[i]["patch_id"] for i in patches)
        raise NonFiniteLossError(
          f"step {number}: {name} is {values[name]}; checkpoints are of"
          f" earlier steps; patches {ids}"
        )
  return {
    name: float(sum(values[name] for values in fetched) / len(fetched))
    for name in fetched[0]
  }


def _flatten(
  scores: Mapping[str, metrics.Scores], tasks: Mapping[str, LabelTask]
) -> dict[str, float]:
  flat = {}
  for task, own in scores.items():
    averages = own.summary()
    values = [averages[name] for name in metrics.AVERAGES] + own.iou.tolist()
    names = metrics.score_names(tasks[task], own.classes)
    flat |= dict(zip(names, values, strict=True))
  return flat
