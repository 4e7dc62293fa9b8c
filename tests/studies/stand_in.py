"""Stands in for `flairhub` in tests of how processes are started and ended."""

import os
import pathlib
import signal
import subprocess
import sys
import time


def main(way: str, path: pathlib.Path):
  """Writes its run time and number of cores, or fails as `way` says."""
  if way == "refuses":
    sys.exit("flairhub refuses: expected a folder, found a file")
  if way == "raises":
    raise RuntimeError("no folder")
  if way == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
  if way == "saves":
    signal.signal(signal.SIGTERM, lambda *_: save(path))
  if way == "hangs":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "100"])
    path.with_suffix(".child").write_text(str(child.pid))
  if way in ("saves", "hangs"):
    path.write_text(str(os.getpid()))
    time.sleep(100)
  start = time.time()
  time.sleep(0.5)
  cores = len(os.sched_getaffinity(0))
  path.write_text(f"{start} {time.time()} {cores}")


def save(path: pathlib.Path):
  path.with_suffix(".saved").touch()
  sys.exit(75)


def is_alive(pid: int) -> bool:
  """Whether a process is there, and not a mere zombie."""
  try:
    state = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except OSError:
    return False
  return state.rpartition(")")[2].split()[0] != "Z"


if __name__ == "__main__":
  way, path = sys.argv[-2:]
  main(way, pathlib.Path(path))
