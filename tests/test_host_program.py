"""Importing the package changes nothing of the program that does."""

import os
import subprocess
import sys

from tests.training import runs

# Libraries are imported first: what they change is theirs.
PROGRAM = """
import logging, pkgutil, importlib, runpy
import array_record.python.array_record_module, flax.linen, grain, jax
import ml_collections.config_flags, optax, orbax.checkpoint, PIL.Image, pyogrio
import jinja2, pandas, rasterio.errors, safetensors.numpy, scipy.stats, submitit
import tabulate, tensorboardX
from matplotlib import figure, ticker, transforms, patches

from tests import host_program

for name in ("absl", "asyncio", "rasterio", "flairhub", "matplotlib", "jax"):
  logging.getLogger(name)
before = host_program.snapshot()

import flairhub_jax
count = 0
for module in pkgutil.walk_packages(flairhub_jax.__path__, "flairhub_jax."):
  importlib.import_module(module.name)
  count += 1
changed = host_program.changes(before, host_program.snapshot())
assert not changed, changed
print(count)
"""


def test_importing_every_module_changes_nothing():
  process = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    cwd=runs.ROOT,
    env=os.environ | {"PYTHONPATH": str(runs.ROOT)},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert process.returncode == 0, process.stderr
  assert int(process.stdout) > 70
