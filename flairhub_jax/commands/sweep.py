"""Train and evaluate many runs, on this machine or on SLURM.

Local runs end with the sweep, even if it is killed; SLURM jobs continue. In
both cases the same command resumes the sweep: finished runs are skipped, others
continue from their checkpoints, and queued jobs are not submitted again.
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import signal
import time
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flairhub_jax import (
  atomic,
  config_file,
  faults,
  lock,
  run_directory,
  run_schema,
  terminal,
)
from flairhub_jax.commands import evaluate, train
from flairhub_jax.data import augmentation, pipeline, records
from flairhub_jax.errors import InputError, InputErrors, RunError
from flairhub_jax.models import build
from flairhub_jax.studies import jobs, sweep
from flairhub_jax.studies import watch as watching

_CUDA = "CUDA_VISIBLE_DEVICES"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags; `--config.…` overrides are read by `run`."""
  parser.add_argument(
    "--config",
    required=True,
    metavar="FILE.py[:ARG]",
    help="file with get_runs; --config.section.field=… changes every run",
  )
  parser.add_argument("--workdir", required=True, metavar="DIR")
  parser.add_argument("--split", default="test", help="to evaluate on")
  parser.add_argument("--subsets", choices=("all",), help="as in `evaluate`")
  parser.add_argument(
    "--dry-run", action="store_true", help="list the runs and stop"
  )
  parser.add_argument("--executor", choices=("local", "slurm"), default="local")
  parser.add_argument(
    "--jobs",
    type=int,
    metavar="N",
    help="concurrent runs, which share the cores; default 1, on SLURM all",
  )
  parser.add_argument("--gpus", type=int, metavar="N", help="per run")
  slurm = parser.add_argument_group("SLURM")
  slurm.add_argument("--time", type=int, metavar="MINUTES")
  slurm.add_argument("--partition")
  slurm.add_argument("--account")
  slurm.add_argument("--cpus", type=int, metavar="N", help="per run")
  slurm.add_argument(
    "--sbatch",
    action="append",
    default=[],
    metavar="OPTION=VALUE",
    help="any other option of sbatch, such as qos=long; repeatable",
  )


def run(args: argparse.Namespace) -> int:
  """Trains and evaluates every unfinished run of a sweep.

  Returns:
    Exit code: 0, or 1 if a run failed.
  """
  slurm = _import_slurm() if args.executor == "slurm" else None
  runs = config_file.load_runs(args.config, args.overrides)
  sweep.check_runs(runs, args.config)
  _check_flags(args)
  _check_data(runs, args.split)
  directory = sweep.SweepDirectory(args.workdir)
  sweep.check_plan(directory, runs)
  watch = watching.Watch(
    directory, [name for name, _ in runs], args.split, args.subsets
  )
  if args.dry_run:
    print(sweep.format_plan(runs, watch.progress))
    if args.executor == "slurm" and watch.unfinished():
      print()
      print(
        slurm.sbatch_script(
          directory.logs("slurm"),
          _slurm_options(slurm, args),
          len(watch.unfinished()),
        )
      )
    return 0
  with lock.hold(directory.lock, what="sweep"), _interruptible():
    sweep.write_plan(directory, runs)
    done = len(runs) - len(watch.unfinished())
    print(f"{len(runs)} runs, {done} already finished: {directory.path}")
    if args.executor == "slurm":
      _run_on_slurm(slurm, directory, watch, args)
    else:
      _run_local(directory, watch, args)
  print()
  tasks = sweep.tasks_of(runs)
  print(sweep.format_table(watch.states(), watch.progress, args.split, tasks))
  return 1 if watch.faults else 0


def _check_flags(args: argparse.Namespace) -> None:
  for name in ("jobs", "gpus", "time", "cpus"):
    value = getattr(args, name)
    if value is not None and value < 1:
      raise InputError(f"--{name}", "at least 1", value)
  if args.executor == "slurm" and args.time is None:
    raise InputError("--time", "minutes per SLURM job", "none")
  if args.executor == "local":
    for name in ("time", "partition", "account", "cpus", "sbatch"):
      if getattr(args, name):
        raise InputError(f"--{name}", "--executor slurm", "local")
  for option in args.sbatch:
    if "=" not in option:
      raise InputError("--sbatch", "OPTION=VALUE", repr(option))


def _check_data(runs: sweep.Runs, split: str) -> None:
  """Checks the data sets and each run against its own."""
  for path in dict.fromkeys(config.data.path for _, config in runs):
    if not path:
      raise InputError(
        "config.data.path", "a folder of `flairhub convert`", "''"
      )
    dataset = records.load_dataset(path)
    for name in ("train", split):
      if name not in dataset.splits:
        raise InputError(path, f"a split {name}", sorted(dataset.splits))
    for name, config in runs:
      if config.data.path == path:
        try:
          _check_run(config, dataset)
        except InputError as error:
          lines = str(error).splitlines()
          raise InputErrors([f"run {name}: {x}" for x in lines]) from error


def _check_run(config: Any, dataset: records.Dataset) -> None:
  """Checks all but the devices, which the run itself checks."""
  run_schema.check(config, dataset, tasks=config.data.tasks)
  build.build_segmenter(config, output_size=dataset.output_size)
  augmentation.build_augmentation(config, dataset)
  options = pipeline.build_read_options(config)
  for split in dataset.splits:
    pipeline.PatchReader(dataset, split, options)


def _slurm_options(slurm: types.ModuleType, args: argparse.Namespace) -> Any:
  return slurm.Options(
    minutes=args.time,
    partition=args.partition,
    account=args.account,
    gpus=args.gpus,
    cpus=args.cpus,
    max_concurrent=args.jobs,
    other=dict(option.split("=", 1) for option in args.sbatch),
  )


# ---- one run ---------------------------------------------------------------


def _train_and_evaluate(
  directory: sweep.SweepDirectory,
  name: str,
  args: argparse.Namespace,
  call: Callable[[Sequence[str]], str],
) -> str:
  """Trains a run, unless it is already trained, and evaluates it.

  Args:
    directory: of the sweep.
    name: of the run.
    args: flags of the sweep.
    call: runs `flairhub` with the arguments; returns an error line, "" on
      success.

  Returns:
    An error line, "" on success.
  """
  run = directory.run(name)
  try:
    if run.lock.exists():
      # A process of a killed sweep may still be saving.
      with lock.hold(run.lock, what="training", patience=faults.GRACE):
        pass
    is_trained = sweep.read_progress(run, args.split).is_trained
  except InputError as error:
    return str(error)
  fault = ""
  if not is_trained:
    config = directory.config(name)
    fault = call(["train", f"--config={config}", f"--workdir={run.path}"])
  subsets = [f"--subsets={args.subsets}"] if args.subsets else []
  return fault or call(
    ["evaluate", f"--run={run.path}", f"--split={args.split}", *subsets]
  )


def _call_in_process(argv: Sequence[str]) -> str:
  """Runs a command in this process, where submitit handles the signals."""
  command = {"train": train, "evaluate": evaluate}[argv[0]]
  parser = argparse.ArgumentParser(f"flairhub {argv[0]}")
  command.add_arguments(parser)
  terminal.silence_libraries()
  try:
    command.run(parser.parse_args(argv[1:], argparse.Namespace(overrides=[])))
  except InputError as error:
    return str(error)
  return ""


# ---- this machine, or SLURM ------------------------------------------------


def _run_local(
  directory: sweep.SweepDirectory,
  watch: watching.Watch,
  args: argparse.Namespace,
) -> None:
  # Persistent compilation cache: one compilation for all seeds and restarts.
  environment = {
    "JAX_COMPILATION_CACHE_DIR": str(directory.compiled),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    **os.environ,
  }

  def job(name: str, slot: jobs.Slot) -> str:
    variables = environment
    if args.gpus:
      gpus = slot_gpus(os.environ.get(_CUDA), slot.number, args.gpus)
      variables = {**environment, _CUDA: gpus}
    call = functools.partial(
      slot.run, folder=directory.logs(name), environment=variables
    )
    return _train_and_evaluate(directory, name, args, call)

  try:
    jobs.run_local(
      watch.unfinished(),
      job,
      max_concurrent=args.jobs or 1,
      started=watch.started,
      ended=watch.ended,
    )
  except KeyboardInterrupt:
    print("runs stopped; the same command resumes them")
    raise


def slot_gpus(visible: str | None, slot: int, gpus: int) -> str:
  """Returns `CUDA_VISIBLE_DEVICES` of the run in a slot.

  Args:
    visible: `CUDA_VISIBLE_DEVICES` of the sweep; None: all.
    slot: 0 to the number of slots - 1.
    gpus: per run.

  Raises:
    InputError: too few GPUs are visible.
  """
  indices = range(slot * gpus, (slot + 1) * gpus)
  if visible is None:
    return ",".join(map(str, indices))
  numbers = visible.split(",")
  if indices.stop > len(numbers):
    raise InputError(
      _CUDA, f"{indices.stop} GPUs for the concurrent runs", repr(visible)
    )
  return ",".join(numbers[i] for i in indices)


def _import_slurm() -> types.ModuleType:
  try:
    from flairhub_jax.studies import slurm
  except ModuleNotFoundError as error:
    raise RunError(
      "--executor slurm needs submitit: pip install 'flairhub_jax[slurm]'"
    ) from error
  return slurm


def _run_on_slurm(
  slurm: types.ModuleType,
  directory: sweep.SweepDirectory,
  watch: watching.Watch,
  args: argparse.Namespace,
) -> None:
  """Submits the runs that are not in the queue, and waits for all jobs."""
  folder = directory.logs("slurm")
  job_ids = _read_jobs(directory.slurm_jobs)
  queued = slurm.queued(list(job_ids.values())) if job_ids else set()
  names = watch.unfinished()
  waiting = {n: job_ids[n] for n in names if job_ids.get(n) in queued}
  new = [name for name in names if name not in waiting]
  for name, job_id in waiting.items():
    print(f"{name} is already job {job_id}")
  if new:
    array = [
      functools.partial(
        _train_and_evaluate, directory, name, args, _call_in_process
      )
      for name in new
    ]
    ids = slurm.submit(array, folder, _slurm_options(slurm, args))
    waiting |= dict(zip(new, ids, strict=True))
    for name in new:
      print(f"{name} is job {waiting[name]}")
    atomic.write_text(
      directory.slurm_jobs, json.dumps(job_ids | waiting, indent=2) + "\n"
    )
  print(f"logs in {folder}; the jobs continue without this command", flush=True)
  while waiting:
    queued = slurm.queued(list(waiting.values()))
    for name in [name for name in waiting if waiting[name] not in queued]:
      watch.ended(name, slurm.fault(folder, waiting.pop(name)))
    time.sleep(_POLL if waiting else 0)


_POLL = 20.0  # seconds; the SLURM controller is shared with other users


def _read_jobs(path: pathlib.Path) -> dict[str, str]:
  if not path.exists():
    return {}
  return run_directory.read_json(path)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
  """Handles SIGTERM and SIGHUP like Ctrl-C."""
  names = (signal.SIGTERM, signal.SIGHUP)
  before = [signal.signal(n, signal.default_int_handler) for n in names]
  try:
    yield
  finally:
    for name, handler in zip(names, before, strict=True):
      signal.signal(name, handler)
