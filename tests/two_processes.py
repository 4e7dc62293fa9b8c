"""Calls of a command in two processes that know of each other."""

import socket
import subprocess
import sys

from tests.training import runs


def in_two_processes(*argv):
  """Standard output of each process."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  started = [
    subprocess.Popen(
      [
        *(sys.executable, "-m", "flairhub_jax", *map(str, argv)),
        f"--coordinator=127.0.0.1:{port}",
        "--num-processes=2",
        f"--process-id={number}",
      ],
      cwd=runs.ROOT,
      env=runs.environment(num_devices=1),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for number in range(2)
  ]
  try:
    message = [process.communicate(timeout=200) for process in started]
  finally:
    for process in started:
      process.kill()
  for process, (_, errors) in zip(started, message, strict=True):
    assert process.returncode == 0, errors
  # JAX's own line about its transport goes to the standard output.
  return [
    "".join(x for x in out.splitlines(True) if not x.startswith("[Gloo]"))
    for out, _ in message
  ]
