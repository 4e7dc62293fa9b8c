"""SLURM job arrays, submitted and requeued by submitit."""

import dataclasses
import getpass
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import submitit

from flairhub_jax.errors import InputError

# Returns an error line, "" on success.
Job = Callable[[], str]


@dataclasses.dataclass(frozen=True)
class _Resumable:
  """A job that continues from its checkpoints when SLURM requeues it."""

  job: Job

  def __call__(self) -> str:
    return self.job()

  def checkpoint(self) -> submitit.helpers.DelayedSubmission:
    """Returns the job to requeue; submitit calls this at the time limit."""
    return submitit.helpers.DelayedSubmission(self)


@dataclasses.dataclass(frozen=True)
class Options:
  """Resources and limits of a SLURM job.

  Attributes:
    minutes: time limit, after which the job is requeued.
    partition: None: SLURM's default.
    account: None: SLURM's default.
    gpus: per job; None: no GPU.
    cpus: per job; None: SLURM's default.
    max_concurrent: maximum number of concurrent jobs; None: no limit.
    other: further options of sbatch.
  """

  minutes: int
  partition: str | None = None
  account: str | None = None
  gpus: int | None = None
  cpus: int | None = None
  max_concurrent: int | None = None
  other: Mapping[str, str] = dataclasses.field(default_factory=dict)


class _Executor(submitit.SlurmExecutor):
  """An executor that needs no SLURM, so that a dry run can print its script."""

  @classmethod
  def affinity(cls) -> int:
    return 2


def _build_executor(
  folder: pathlib.Path, options: Options, num_jobs: int
) -> _Executor:
  # A requeued run continues, so time limits may recur.
  executor = _Executor(folder, max_num_timeout=1000)
  parameters: dict[str, Any] = {
    "job_name": "flairhub",
    "time": options.minutes,
    "partition": options.partition,
    "account": options.account,
    "gpus_per_node": options.gpus,
    "cpus_per_task": options.cpus,
    "array_parallelism": options.max_concurrent or num_jobs,
    # Up to five minutes to finish a step or a validation and save.
    "signal_delay_s": min(300, 30 * options.minutes),
    "additional_parameters": dict(options.other) or None,
  }
  executor.update_parameters(
    **{name: value for name, value in parameters.items() if value is not None}
  )
  return executor


def sbatch_script(folder: pathlib.Path, options: Options, num_jobs: int) -> str:
  """Returns the script that `submit` passes to sbatch."""
  executor = _build_executor(folder, options, num_jobs)
  if num_jobs > 1:
    executor.parameters["map_count"] = num_jobs
  return executor._make_submission_file_text(executor._submitit_command_str, "")


def submit(
  jobs: Sequence[Job], folder: pathlib.Path, options: Options
) -> list[str]:
  """Submits a job array and returns the job ids.

  Raises:
    InputError: SLURM is not available, or rejects the jobs.
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
  """Returns the pending and running jobs; all of them if squeue fails."""
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
  """Returns the error line of a job no longer in the queue, "" on success."""
  job = submitit.SlurmJob(folder=folder, job_id=job_id)
  if not job.paths.result_pickle.exists():
    return "killed, or out of memory"
  if job.exception() is None:
    return job.result()
  lines = (job.stderr() or "").replace("\r", "\n").strip().splitlines()
  return lines[-1] if lines else "no error message"
