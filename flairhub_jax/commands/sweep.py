"""Train and evaluate many runs, here or on SLURM.

Runs here end with the sweep, even if it is killed; jobs of SLURM stay. The same
command goes on in both cases: finished runs are left alone, others continue
from their checkpoints, and jobs that still wait are not submitted again.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

from flairhub_jax import (
  atomic,
  configuration,
  lock,
  run_directory,
  terminal,
)
from flairhub_jax.commands import evaluate, train
from flairhub_jax.data import pipeline, records
from flairhub_jax.errors import InputError
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
  parser.add_argument("--subsets", help="as of `evaluate`")
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
  runs = configuration.load_runs(args.config, args.overrides)
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
        jobs.sbatch_script(
          directory.logs("slurm"), _slurm_options(args), len(watch.unfinished())
        )
      )
    return 0
  with lock.hold(directory.lock, what="sweep") as mark, _interruptible():
    sweep.write_plan(directory, runs)
    done = len(runs) - len(watch.unfinished())
    print(f"{len(runs)} runs, {done} finished before: {directory.path}")
    if args.executor == "slurm":
      _run_on_slurm(directory, watch, args)
    else:
      _run_here(directory, watch, args, mark)
  print()
  print(sweep.format_table(watch.states(), watch.progress, args.split))
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
  _arguments(evaluate, _words_of_evaluation("", args))


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
          raise InputError(f"run {name}: {error}") from error


def _check_run(config: Any, dataset: records.Dataset) -> None:
  """Refuses what needs no accelerator to be seen, which is left to the runs."""
  build.build_segmenter(config, output_size=dataset.output_size)
  reading = pipeline.build_reading(config)
  for split in dataset.splits:
    pipeline.PatchReader(dataset, split, reading)


def _slurm_options(args: argparse.Namespace) -> jobs.SlurmOptions:
  return jobs.SlurmOptions(
    minutes=args.time,
    partition=args.partition,
    account=args.account,
    gpus=args.gpus,
    cpus=args.cpus,
    at_a_time=args.jobs,
    other=dict(word.split("=", 1) for word in args.sbatch),
  )


# ---- what a process does ---------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainAndEvaluate(jobs.Resumable):
  """One run, from wherever it is to its scores.

  Attributes:
    run: its directory.
    config: its planned configuration.
    words: the command line of its evaluation.
    split: of its evaluation.
    sweep: lock of the sweep with whose process this one ends, and the mark of
      that; None where SLURM looks after it.
    gpus: numbers of the GPUs it sees; None: as it was started.
  """

  run: str
  config: str
  words: Sequence[str]
  split: str
  sweep: tuple[str, str] | None = None
  gpus: str | None = None

  def __call__(self) -> str:
    """Returns what was wrong with the user's input, "" if nothing."""
    if self.gpus is not None:
      os.environ[_CUDA] = self.gpus
    terminal.silence_libraries()
    if self.sweep:
      lock.end_with(*self.sweep)
    words = [f"--config={self.config}", f"--workdir={self.run}"]
    try:
      directory = run_directory.RunDirectory(self.run)
      # A process of a sweep that was killed needs a moment to notice.
      lock.hold_to_the_end(directory.lock, what="training", patience=60)
      if not sweep.read_progress(directory, self.split).is_trained:
        train.run(_arguments(train, words))
      evaluate.run(_arguments(evaluate, self.words))
    except InputError as error:
      return str(error)
    return ""


def _arguments(command: Any, words: Sequence[str]) -> argparse.Namespace:
  """The flags of another command, as its own command line reads them."""
  name = command.__name__.rpartition(".")[-1]
  parser = argparse.ArgumentParser(f"flairhub sweep: {name}")
  command.add_arguments(parser)
  return argparse.Namespace(overrides=[], **vars(parser.parse_args(words)))


def _words_of_evaluation(run: str, args: argparse.Namespace) -> tuple[str, ...]:
  words = (f"--run={run}", f"--split={args.split}")
  return words + (
    () if args.subsets is None else (f"--subsets={args.subsets}",)
  )


def _work(
  directory: sweep.SweepDirectory, name: str, args: argparse.Namespace, **more
) -> TrainAndEvaluate:
  run = str(directory.run(name).path)
  return TrainAndEvaluate(
    run=run,
    config=str(directory.config(name)),
    words=_words_of_evaluation(run, args),
    split=args.split,
    **more,
  )


# ---- here, or on SLURM -----------------------------------------------------


def _run_here(
  directory: sweep.SweepDirectory,
  watch: watching.Watch,
  args: argparse.Namespace,
  mark: str,
) -> None:
  def work(name: str, place: int) -> TrainAndEvaluate:
    return _work(
      directory,
      name,
      args,
      sweep=(str(directory.lock), mark),
      gpus=share_of_gpus(os.environ.get(_CUDA), place, args.gpus),
    )

  try:
    jobs.run_local(
      watch.unfinished(),
      work,
      directory.logs,
      at_a_time=args.jobs or 1,
      # Seeds share their programs, and a run that goes on has its own.
      environment={
        "JAX_COMPILATION_CACHE_DIR": str(directory.compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
      },
      started=watch.started,
      ended=watch.ended,
    )
  except KeyboardInterrupt:
    print("the runs are stopped; the same command lets them go on")
    raise


def share_of_gpus(
  visible: str | None, place: int, gpus: int | None
) -> str | None:
  """The GPUs of the run at a place, in the words of CUDA.

  Args:
    visible: those that the sweep may use, separated by commas; None: all.
    place: 0 to the runs at a time - 1.
    gpus: of each run; None: every run sees all that are visible.

  Raises:
    InputError: fewer are visible than the runs at a time need.
  """
  if gpus is None:
    # submitit hides all GPUs where none is asked for; this brings them back.
    return visible if visible is not None else _all_gpus()
  places = range(place * gpus, (place + 1) * gpus)
  if visible is None:
    return ",".join(map(str, places))
  numbers = visible.split(",")
  if places.stop > len(numbers):
    raise InputError(
      _CUDA, f"{places.stop} GPUs for the runs at a time", repr(visible)
    )
  return ",".join(numbers[i] for i in places)


def _all_gpus() -> str | None:
  count = len(list(pathlib.Path("/dev").glob("nvidia[0-9]*")))
  return ",".join(map(str, range(count))) if count else None


def _run_on_slurm(
  directory: sweep.SweepDirectory,
  watch: watching.Watch,
  args: argparse.Namespace,
) -> None:
  """Submits what is not in the queue already, and waits for all of it."""
  folder = directory.logs("slurm")
  job_of = _read_jobs(directory.slurm_jobs)
  queued = jobs.queued_slurm(list(job_of.values())) if job_of else set()
  mine = {n: job_of[n] for n in watch.unfinished() if job_of.get(n) in queued}
  fresh = [name for name in watch.unfinished() if name not in mine]
  for name, job_id in mine.items():
    print(f"{name} is job {job_id} already")
  if fresh:
    works = [_work(directory, name, args) for name in fresh]
    ids = jobs.submit_slurm(works, folder, _slurm_options(args))
    mine |= dict(zip(fresh, ids, strict=True))
    for name in fresh:
      print(f"{name} is job {mine[name]}")
    atomic.write_text(
      directory.slurm_jobs, json.dumps(job_of | mine, indent=2) + "\n"
    )
  print(f"logs in {folder}; this command may end, the jobs stay", flush=True)
  while mine:
    queued = jobs.queued_slurm(list(mine.values()))
    for name in [name for name in mine if mine[name] not in queued]:
      watch.ended(name, jobs.slurm_fault(folder, mine.pop(name)))
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
