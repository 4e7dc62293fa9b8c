"""How the command line starts."""

import os
import subprocess
import sys

import pytest

from flairhub_jax import __main__

PROGRAM = """
import os, sys
from flairhub_jax import __main__
__main__.main = lambda: print(os.getpid(), os.environ.get("GLIBC_TUNABLES"))
__main__.start()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages of Linux")
@pytest.mark.parametrize(
  ("given", "platforms", "expected"),
  [
    (None, "cpu", "glibc.malloc.hugetlb=1"),
    (None, "cpu,cuda", "glibc.malloc.hugetlb=1"),
    (
      "glibc.malloc.arena_max=4",
      "cpu",
      "glibc.malloc.arena_max=4:glibc.malloc.hugetlb=1",
    ),
    ("glibc.malloc.hugetlb=0", "cpu", "glibc.malloc.hugetlb=0"),
    # Training steps on an accelerator use no host memory.
    (None, "cuda", "None"),
    (None, "cuda,cpu", "None"),
  ],
)
def test_a_command_asks_for_huge_pages_and_stays_the_same_process(
  given, platforms, expected
):
  environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
  environment["JAX_PLATFORMS"] = platforms
  if given:
    environment["GLIBC_TUNABLES"] = given
  process = subprocess.Popen(
    [sys.executable, "-c", PROGRAM],
    env=environment,
    stdout=subprocess.PIPE,
    text=True,
  )
  message, _ = process.communicate()
  assert message.split() == [str(process.pid), expected]


@pytest.mark.parametrize("name", [None, "jax_plugins", "libtpu"])
def test_accelerator_drivers_are_detected_before_jax_starts(
  name, tmp_path, monkeypatch
):
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  monkeypatch.syspath_prepend(tmp_path)
  if name:
    (tmp_path / name).mkdir()
  assert __main__._has_only_cpus() == (name is None)
