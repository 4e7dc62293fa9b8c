"""Work in processes of its own: some at a time here, or a SLURM array."""

import contextlib
import dataclasses
import getpass
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import submitit

from flairhub_jax.errors import InputError

_FOREVER = 10 * 365 * 24 * 60  # minutes; submitit's own default is two

Work = Callable[[], str]


class Resumable:
  """Work that a job stopped by SLURM takes up again when it is requeued."""

  def checkpoint(self):
    """Called by submitit: what the job does after it was requeued."""
    return submitit.helpers.DelayedSubmission(self)


# ---- here ----------------------------------------------------------------


def run_local(
  names: Sequence[str],
  work: Callable[[str, int], Work],
  folder: Callable[[str], pathlib.Path],
  *,
  at_a_time: int,
  environment: Mapping[str, str],
  started: Callable[[str], None],
  ended: Callable[[str, str], None],
) -> None:
  """Does each work in a process; an interrupt ends those that run.

  Args:
    names: of the works, in order.
    work: makes the work of a name; the second argument counts the places, 0 to
      `at_a_time` - 1, of which each has one work at a time.
    folder: where a name's process writes what it prints.
    at_a_time: processes at the same time, each on its share of the cores.
    environment: variables for them where this process has none.
    started: called with the name.
    ended: called with the name and what went wrong, "" if nothing did.
  """
  waiting, places = list(names), list(range(at_a_time))
  running: dict[int, tuple[str, submitit.Job[str]]] = {}
  try:
    while waiting or running:
      while waiting and places:
        name, place = waiting.pop(0), places.pop(0)
        executor = submitit.LocalExecutor(folder(name))
        executor.update_parameters(timeout_min=_FOREVER)
        with _share(place, at_a_time, environment):
          running[place] = name, executor.submit(work(name, place))
        started(name)
      for place, (name, job) in list(running.items()):
        if job.done():
          del running[place]
          places.append(place)
          ended(name, _fault(job))
      time.sleep(0.1)
  finally:
    for _, job in running.values():
      job.cancel()
    until = time.monotonic() + 10
    while not all(job.done() for _, job in running.values()):
      if time.monotonic() > until:
        break
      time.sleep(0.1)


@contextlib.contextmanager
def _share(
  place: int, at_a_time: int, environment: Mapping[str, str]
) -> Iterator[None]:
  """Lets a process that is started here inherit its share of the cores.

  And heed interrupts, which this one ignores if it runs in the background.

  XLA, OpenMP and the readers all make as many threads as they may use cores.
  Sums are rounded otherwise on another number of cores.
  """
  before = dict(os.environ)
  cores = None
  ignores = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
  if ignores:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
  for name, value in environment.items():
    os.environ.setdefault(name, value)
  if hasattr(os, "sched_setaffinity") and at_a_time > 1:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, share_of_cores(sorted(cores), place, at_a_time))
  try:
    yield
  finally:
    os.environ.clear()
    os.environ.update(before)
    if ignores:
      signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cores:
      os.sched_setaffinity(0, cores)


def share_of_cores(
  cores: Sequence[int], place: int, at_a_time: int
) -> tuple[int, ...]:
  """The cores of one of `at_a_time` processes; at least one."""
  count = max(1, len(cores) // at_a_time)
  start = place * count % len(cores)
  return tuple(cores[start : start + count])


def _fault(job: submitit.Job) -> str:
  """What went wrong: the work's own word, or its last line."""
  if not job.paths.result_pickle.exists():
    return "it was killed, or ran out of memory"
  if job.exception() is None:
    return job.result()
  lines = (job.stderr() or "").replace("\r", "\n").strip().splitlines()
  return lines[-1] if lines else "an error without a word"


# ---- SLURM ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SlurmOptions:
  """What a run asks of SLURM.

  Attributes:
    minutes: after which a run is stopped and queued again.
    partition: None takes SLURM's default.
    account: None takes SLURM's default.
    gpus: of each run; None asks for none.
    cpus: of each run; None takes SLURM's default.
    at_a_time: runs at the same time; None sets no limit.
    other: any further options of sbatch.
  """

  minutes: int
  partition: str | None = None
  account: str | None = None
  gpus: int | None = None
  cpus: int | None = None
  at_a_time: int | None = None
  other: Mapping[str, str] = dataclasses.field(default_factory=dict)


class _SlurmExecutor(submitit.SlurmExecutor):
  """Can be made where there is no SLURM, to show what it would submit."""

  @classmethod
  def affinity(cls) -> int:
    return 2


def _slurm_executor(
  folder: pathlib.Path, options: SlurmOptions, num_runs: int
) -> _SlurmExecutor:
  # Every requeue continues a run; none is lost however often time is up.
  executor = _SlurmExecutor(folder, max_num_timeout=1000)
  parameters: dict[str, Any] = {
    "job_name": "flairhub",
    "time": options.minutes,
    "partition": options.partition,
    "account": options.account,
    "gpus_per_node": options.gpus,
    "cpus_per_task": options.cpus,
    "array_parallelism": options.at_a_time or num_runs,
    # Five minutes to end a step or a validation, and to save.
    "signal_delay_s": min(300, 30 * options.minutes),
    "additional_parameters": dict(options.other) or None,
  }
  executor.update_parameters(
    **{name: value for name, value in parameters.items() if value is not None}
  )
  return executor


def sbatch_script(
  folder: pathlib.Path, options: SlurmOptions, num_runs: int
) -> str:
  """Returns the script that `submit_slurm` hands to sbatch."""
  executor = _slurm_executor(folder, options, num_runs)
  if num_runs > 1:
    executor.parameters["map_count"] = num_runs
  return executor._make_submission_file_text(executor._submitit_command_str, "")


def submit_slurm(
  works: Sequence[Work], folder: pathlib.Path, options: SlurmOptions
) -> list[str]:
  """Submits an array of one job per work, and returns their ids.

  Raises:
    InputError: there is no SLURM here, or it refuses.
  """
  for program in ("sbatch", "srun", "squeue"):
    if shutil.which(program) is None:
      raise InputError("--executor slurm", f"{program} on this machine", "none")
  executor = _slurm_executor(folder, options, len(works))
  try:
    jobs = executor.submit_array(works)
  except submitit.core.utils.FailedJobError as error:
    raise InputError(
      "--executor slurm", "options that sbatch accepts", str(error).strip()
    ) from error
  return [job.job_id for job in jobs]


def queued_slurm(job_ids: Sequence[str]) -> set[str]:
  """Tells which jobs wait or run; all of them where SLURM does not answer."""
  command = ["squeue", "--noheader", "--array", "--format=%i"]
  try:
    done = subprocess.run(
      [*command, f"--user={getpass.getuser()}"], capture_output=True, text=True
    )
  except FileNotFoundError as error:
    raise InputError(
      "--executor slurm", "squeue on this machine", "none"
    ) from error
  if done.returncode:
    return set(job_ids)
  return set(job_ids) & set(done.stdout.split())


def slurm_fault(folder: pathlib.Path, job_id: str) -> str:
  """What a job that has left the queue said went wrong."""
  return _fault(submitit.SlurmJob(folder=folder, job_id=job_id))
