"""Numbers of the reference for parts of the network."""

import json
import pathlib

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def units(shared: pathlib.Path):
  """Settings of the unit fixtures, and a loader of their numbers."""
  folder = shared / "parity" / "units"
  text = (folder / "units.json").read_text(encoding="utf-8")
  return json.loads(text), lambda name: np.load(folder / f"{name}.npz")


@pytest.fixture(scope="module", autouse=True)
def full_products():
  """Comparisons need full float32 products."""
  with jax.default_matmul_precision("highest"):
    yield
