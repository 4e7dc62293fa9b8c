"""Works that need no network, for tests of how processes are looked after."""

import dataclasses
import os
import pathlib
import signal
import time

from flairhub_jax.studies import jobs


@dataclasses.dataclass(frozen=True)
class Note(jobs.Resumable):
  """Notes when it ran and on how many cores, or goes wrong in some way."""

  path: str
  way: str = "well"

  def __call__(self) -> str:
    if self.way == "complains":
      return "expected bread, found stones"
    if self.way == "raises":
      raise RuntimeError("no bread")
    if self.way == "dies":
      os.kill(os.getpid(), signal.SIGKILL)
    if self.way == "waits":
      pathlib.Path(self.path).write_text(str(os.getpid()))
      time.sleep(100)
    start = time.time()
    time.sleep(0.5)
    cores = len(os.sched_getaffinity(0))
    pathlib.Path(self.path).write_text(f"{start} {time.time()} {cores}")
    return ""


def is_alive(pid: int) -> bool:
  """Whether a process is there, and not a mere zombie."""
  try:
    state = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except OSError:
    return False
  return state.rpartition(")")[2].split()[0] != "Z"
