"""Train and evaluate many runs, here or on SLURM.

Runs here end with the sweep, even if it is killed; jobs of SLURM stay. The same
command goes on in both cases: finished runs are left alone, others continue
from their checkpoints, and jobs that still wait are not submitted again.
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
  parser.add_argument("--subsets", choices=("all",), help="as of `evaluate`")
  parser.add_argument(
    "--dry-run", action="store_true", help="show the runs, do nothing"
  )
  parser.add_argument("--executor", choices=("local", "slurm"), default="local")
  parser.add_argument(
    "--jobs",
    type=int,
    metavar="N",
    help="runs at a time, sharing the cores; default 1, on SLURM all",
  )
  parser.add_argument("--gpus", type=int, metavar="N", help="of each run")
  slurm = parser.add_argument_group("SLURM")
  slurm.add_argument("--time", type=int, metavar="MINUTES")
  slurm.add_argument("--partition")
  slurm.add_argument("--account")
  slurm.add_argument("--cpus", type=int, metavar="N", help="of each run")
  slurm.add_argument(
    "--sbatch",
    action="append",
    default=[],
    metavar="OPTION=VALUE",
    help="any other option of sbatch, such as qos=long; may come again",
  )


def run(args: argparse.Namespace) -> int:
  """Does every run of a sweep that is not finished.

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
    print(f"{len(runs)} runs, {done} finished before: {directory.path}")
    if args.executor == "slurm":
      _run_on_slurm(slurm, directory, watch, args)
    else:
      _run_here(directory, watch, args)
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
    raise InputError("--time", "minutes for each job of SLURM", "none")
  if args.executor == "local":
    for name in ("time", "partition", "account", "cpus", "sbatch"):
      if getattr(args, name):
        raise InputError(f"--{name}", "--executor slurm with it", "local")
  for word in args.sbatch:
    if "=" not in word:
      raise InputError("--sbatch", "OPTION=VALUE", repr(word))


def _check_data(runs: sweep.Runs, split: str) -> None:
  """Refuses data that would fail in every run."""
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
  """Checks a run without devices; the run itself checks them."""
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
    at_a_time=args.jobs,
    other=dict(word.split("=", 1) for word in args.sbatch),
  )


# ---- one run ---------------------------------------------------------------


def _train_and_evaluate(
  directory: sweep.SweepDirectory,
  name: str,
  args: argparse.Namespace,
  call: Callable[[Sequence[str]], str],
) -> str:
  """Trains and evaluates a run, as far as it is unfinished.

  Args:
    directory: of the sweep.
    name: of the run.
    args: flags of the sweep.
    call: runs `flairhub` with some arguments; returns an error line, "" on
      success.

  Returns:
    An error line, "" on success.
  """
  run = directory.run(name)
  try:
    if run.lock.exists():
      # The process of a killed sweep may still be saving.
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


def _call_here(argv: Sequence[str]) -> str:
  """Runs a command in this process, whose signals submitit handles."""
  command = {"train": train, "evaluate": evaluate}[argv[0]]
  parser = argparse.ArgumentParser(f"flairhub {argv[0]}")
  command.add_arguments(parser)
  terminal.silence_libraries()
  try:
    command.run(parser.parse_args(argv[1:], argparse.Namespace(overrides=[])))
  except InputError as error:
    return str(error)
  return ""


# ---- here, or on SLURM -----------------------------------------------------


def _run_here(
  directory: sweep.SweepDirectory,
  watch: watching.Watch,
  args: argparse.Namespace,
) -> None:
  # Seeds share their programs, and a run that goes on has its own.
  environment = {
    "JAX_COMPILATION_CACHE_DIR": str(directory.compiled),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    **os.environ,
  }

  def job(name: str, slot: jobs.Slot) -> str:
    own = environment
    if args.gpus:
      gpus = share_of_gpus(os.environ.get(_CUDA), slot.number, args.gpus)
      own = {**environment, _CUDA: gpus}
    call = functools.partial(
      slot.run, folder=directory.logs(name), environment=own
    )
    return _train_and_evaluate(directory, name, args, call)

  try:
    jobs.run_local(
      watch.unfinished(),
      job,
      at_a_time=args.jobs or 1,
      started=watch.started,
      ended=watch.ended,
    )
  except KeyboardInterrupt:
    print("the runs are stopped; the same command lets them go on")
    raise


def share_of_gpus(visible: str | None, slot: int, gpus: int) -> str:
  """The GPUs of the run in a slot, in the words of CUDA.

  Args:
    visible: those that the sweep may use, separated by commas; None: all.
    slot: 0 to the runs at a time - 1.
    gpus: of each run.

  Raises:
    InputError: fewer are visible than the runs at a time need.
  """
  indices = range(slot * gpus, (slot + 1) * gpus)
  if visible is None:
    return ",".join(map(str, indices))
  numbers = visible.split(",")
  if indices.stop > len(numbers):
    raise InputError(
      _CUDA, f"{indices.stop} GPUs for the runs at a time", repr(visible)
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
  """Submits what is not in the queue already, and waits for all of it."""
  folder = directory.logs("slurm")
  job_of = _read_jobs(directory.slurm_jobs)
  queued = slurm.queued(list(job_of.values())) if job_of else set()
  mine = {n: job_of[n] for n in watch.unfinished() if job_of.get(n) in queued}
  fresh = [name for name in watch.unfinished() if name not in mine]
  for name, job_id in mine.items():
    print(f"{name} is job {job_id} already")
  if fresh:
    array = [
      functools.partial(_train_and_evaluate, directory, name, args, _call_here)
      for name in fresh
    ]
    ids = slurm.submit(array, folder, _slurm_options(slurm, args))
    mine |= dict(zip(fresh, ids, strict=True))
    for name in fresh:
      print(f"{name} is job {mine[name]}")
    atomic.write_text(
      directory.slurm_jobs, json.dumps(job_of | mine, indent=2) + "\n"
    )
  print(f"logs in {folder}; this command may end, the jobs stay", flush=True)
  while mine:
    queued = slurm.queued(list(mine.values()))
    for name in [name for name in mine if mine[name] not in queued]:
      watch.ended(name, slurm.fault(folder, mine.pop(name)))
    time.sleep(_POLL if mine else 0)


_POLL = 20.0  # seconds; SLURM's controllers are shared with others


def _read_jobs(path: pathlib.Path) -> dict[str, str]:
  if not path.exists():
    return {}
  return run_directory.read_json(path)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
  """Treats being asked to end, or losing the terminal, as Ctrl-C."""
  names = (signal.SIGTERM, signal.SIGHUP)
  before = [signal.signal(n, signal.default_int_handler) for n in names]
  try:
    yield
  finally:
    for name, handler in zip(names, before, strict=True):
      signal.signal(name, handler)
