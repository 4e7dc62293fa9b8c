"""How the command line starts."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from flairhub_jax import __main__
__main__.main = lambda: print(os.getpid(), os.environ["GLIBC_TUNABLES"])
__main__.start()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages of Linux")
@pytest.mark.parametrize(
  ("given", "expected"),
  [
    (None, "glibc.malloc.hugetlb=1"),
    (
      "glibc.malloc.arena_max=4",
      "glibc.malloc.arena_max=4:glibc.malloc.hugetlb=1",
    ),
    ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
  ],
)
def test_a_command_asks_for_huge_pages_and_stays_the_same_process(
  given, expected
):
  environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
  if given:
    environment["GLIBC_TUNABLES"] = given
  process = subprocess.Popen(
    [sys.executable, "-c", PROGRAM],
    env=environment,
    stdout=subprocess.PIPE,
    text=True,
  )
  told, _ = process.communicate()
  assert told.split() == [str(process.pid), expected]
