"""A whole job, compiled with XLA's default optimisations.

All other tests compile without XLA's optimisations, which take most of the
time of a test.
"""

import json
import os
import subprocess

import numpy as np
import pytest

from flairhub_jax.data import geotiff
from tests.training import runs

TASK = "AERIAL_LABEL-COSIA"
# tests/models/test_numbers.py compiles time series with these defaults.
SMALL = (
  "--config.data.modalities=('AERIAL_RGBI',)",
  f"--config.data.tasks=('{TASK}',)",
)


def run(*args):
  """Runs a command with XLA's defaults on one device, as users do."""
  variables = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  done = subprocess.run(
    args, cwd=runs.ROOT, env=variables, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_job_is_trained_evaluated_and_mapped(converted, tmp_path):
  workdir, maps = tmp_path / "run", tmp_path / "maps"
  command = runs.command(converted, workdir, *SMALL)
  run(*command)
  losses = runs.losses(workdir)
  assert len(losses) == 9 and np.isfinite(losses).all()
  assert np.mean(losses[-3:]) < np.mean(losses[:3])
  program = command[: command.index("train")]
  run(*program, "evaluate", f"--run={workdir}")
  run(*program, "predict", f"--run={workdir}", f"--out={maps}")
  (path,) = workdir.glob("results/**/scores.json")
  scores = json.loads(path.read_text(encoding="utf-8"))
  confusion = np.array(scores["tasks"][TASK]["confusion"])
  # Maps and scores come from different programs and must agree.
  counts = np.zeros(len(confusion), int)
  for path in maps.glob("**/PRED_*.tif"):
    actual, _ = geotiff.read_raster(path)
    counts += np.bincount(actual.ravel(), minlength=len(confusion))
  np.testing.assert_array_equal(counts, confusion.sum(0))
