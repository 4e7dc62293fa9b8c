"""Numbers of the reference for parts of the network."""

import jax
import pytest


@pytest.fixture(scope="session")
def units(origin):
  """Settings of the unit fixtures, and a loader of their numbers."""
  settings = origin.settings("units/units")
  return settings, lambda name: origin.arrays(f"units/{name}")


@pytest.fixture(scope="module", autouse=True)
def full_products():
  """Comparisons need full float32 products."""
  with jax.default_matmul_precision("highest"):
    yield
