"""Jobs in an array of SLURM, which submitit submits and queues again."""

import dataclasses
import getpass
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import submitit

from flairhub_jax.errors import InputError

# Returns what went wrong, "" if nothing did.
Job = Callable[[], str]


@dataclasses.dataclass(frozen=True)
class _Resumable:
  """A job that continues from its checkpoints when SLURM queues it again."""

  job: Job

  def __call__(self) -> str:
    return self.job()

  def checkpoint(self) -> submitit.helpers.DelayedSubmission:
    """Called by submitit when the time is up: what is to be queued again."""
    return submitit.helpers.DelayedSubmission(self)


@dataclasses.dataclass(frozen=True)
class Options:
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


class _Executor(submitit.SlurmExecutor):
  """Can be made where there is no SLURM, to show what it would submit."""

  @classmethod
  def affinity(cls) -> int:
    return 2


def _build_executor(
  folder: pathlib.Path, options: Options, num_jobs: int
) -> _Executor:
  # Every requeue continues a run; none is lost however often time is up.
  executor = _Executor(folder, max_num_timeout=1000)
  parameters: dict[str, Any] = {
    "job_name": "flairhub",
    "time": options.minutes,
    "partition": options.partition,
    "account": options.account,
    "gpus_per_node": options.gpus,
    "cpus_per_task": options.cpus,
    "array_parallelism": options.at_a_time or num_jobs,
    # Five minutes to end a step or a validation, and to save.
    "signal_delay_s": min(300, 30 * options.minutes),
    "additional_parameters": dict(options.other) or None,
  }
  executor.update_parameters(
    **{name: value for name, value in parameters.items() if value is not None}
  )
  return executor


def sbatch_script(folder: pathlib.Path, options: Options, num_jobs: int) -> str:
  """Returns the script that `submit` hands to sbatch."""
  executor = _build_executor(folder, options, num_jobs)
  if num_jobs > 1:
    executor.parameters["map_count"] = num_jobs
  return executor._make_submission_file_text(executor._submitit_command_str, "")


def submit(
  jobs: Sequence[Job], folder: pathlib.Path, options: Options
) -> list[str]:
  """Submits an array of jobs, and returns their ids.

  Raises:
    InputError: there is no SLURM here, or it refuses.
  """
  for program in ("sbatch", "srun", "squeue"):
    if shutil.which(program) is None:
      raise InputError("--executor slurm", f"{program} on this machine", "none")
  executor = _build_executor(folder, options, len(jobs))
  try:
    submitted = executor.submit_array([_Resumable(job) for job in jobs])
  except submitit.core.utils.FailedJobError as error:
    raise InputError(
      "--executor slurm", "options that sbatch accepts", str(error).strip()
    ) from error
  return [job.job_id for job in submitted]


def queued(job_ids: Sequence[str]) -> set[str]:
  """Returns the jobs that wait or run; all where SLURM does not answer."""
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


def fault(folder: pathlib.Path, job_id: str) -> str:
  """What went wrong with a job that has left the queue, "" if nothing did."""
  job = submitit.SlurmJob(folder=folder, job_id=job_id)
  if not job.paths.result_pickle.exists():
    return "it was killed, or ran out of memory"
  if job.exception() is None:
    return job.result()
  lines = (job.stderr() or "").replace("\r", "\n").strip().splitlines()
  return lines[-1] if lines else "an error without a word"
