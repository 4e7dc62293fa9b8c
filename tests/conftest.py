"""What several tests share."""

import os
import pathlib

# Two devices, so that every test of training also tests sharding.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """Reference numbers and real samples, which lie beside the project."""
  folder = ROOT.parent / "shared"
  if not folder.is_dir():
    pytest.skip("needs ../shared (reference numbers, real imagery)")
  return folder
