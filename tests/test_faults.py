"""How the processes of a job end when one of them fails."""

import socket
import subprocess
import sys
import time

import pytest

from tests.training import runs

# A command that only synchronises with the other process until one fails.
JOB = """
import os, sys, time, types
from flairhub_jax import __main__, processes
from flairhub_jax.errors import InputError, RunError, StoppedEarly

way, index = sys.argv[1], int(sys.argv[3])

def first():
  if way == "first, input":
    raise InputError("a.csv", "bread", "stones")
  if way == "first, bug":
    raise KeyError("bread")

def run(args):
  processes.initialize_distributed(args)
  processes.initialize_distributed(args)
  processes.main_process_first(first)
  for number in range(1000):
    processes.any_of(False)
    if number == 5:
      if way == "input" and index == 1:
        raise InputError("a.csv", "bread", "stones")
      if way == "bug" and index == 0:
        raise KeyError("bread")
      if way == "disk" and index == 0:
        raise OSError(28, "No space left on device")
      if way == "stopped":
        raise StoppedEarly("SIGTERM: saved step 5")
      if way == "late":
        time.sleep(2 * index)
        return 0
  return 0

sys.modules["flairhub_jax.commands.train"] = types.SimpleNamespace(
  run=run, add_arguments=processes.add_arguments
)
sys.exit(__main__.main([
  "train", f"--coordinator={sys.argv[2]}", "--num-processes=2",
  f"--process-id={index}",
]))
"""


def run_two(way):
  """Exit codes and standard error of both processes."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    where = f"127.0.0.1:{free.getsockname()[1]}"
  started = [
    subprocess.Popen(
      [sys.executable, "-c", JOB, way, where, str(i)],
      cwd=runs.ROOT,
      env=runs.environment(1),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  begin = time.monotonic()
  try:
    outputs = [p.communicate(timeout=60)[1].strip() for p in started]
  finally:
    for process in started:
      process.kill()
  assert time.monotonic() - begin < 40  # none waited for heartbeats
  return [p.returncode for p in started], outputs


@pytest.mark.parametrize(
  ("way", "code", "first", "second"),
  [
    (
      "input",
      2,
      "flairhub: process 1 on HOST: a.csv: expected bread, found stones",
      "flairhub train: a.csv: expected bread, found stones",
    ),
    (
      "disk",
      1,
      "flairhub train: [Errno 28] No space left on device",
      "flairhub: process 0 on HOST: [Errno 28] No space left on device",
    ),
    ("bug", 1, "TRACEBACK", "flairhub: process 0 on HOST: KeyError: 'bread'"),
    (
      "first, input",
      2,
      "flairhub train: a.csv: expected bread, found stones",
      "flairhub train: a.csv: expected bread, found stones",
    ),
    ("first, bug", 1, "TRACEBACK", "KeyError: 'bread'"),
    ("stopped", 75, *["flairhub train: SIGTERM: saved step 5"] * 2),
    ("late", 0, "", ""),
  ],
)
def test_both_end_alike_and_say_why(way, code, first, second):
  codes, outputs = run_two(way)
  assert codes == [code, code], outputs
  host = socket.gethostname()
  for expected, text in zip((first, second), outputs, strict=True):
    if expected == "TRACEBACK":
      assert text.startswith("Traceback") and "KeyError: 'bread'" in text
    elif way == "first, bug":
      # Reported by the store or by the first process itself.
      assert expected in text and len(text.splitlines()) == 1
    elif way != "first, input":
      assert text == expected.replace("HOST", host)
    else:
      assert text.endswith("a.csv: expected bread, found stones")
      assert len(text.splitlines()) == 1
