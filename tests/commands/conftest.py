"""A checkpoint in the format of the reference, and its import."""

import pytest

from flairhub_jax import __main__
from tests.weights import reference_files


@pytest.fixture(scope="session")
def released(tmp_path_factory):
  """A checkpoint of one image, with its folder of YAML."""
  folder = tmp_path_factory.mktemp("released")
  return reference_files.write(
    folder, reference_files.network(), reference_files.SIDES
  )


@pytest.fixture(scope="session")
def run(released, tmp_path_factory):
  """The run directory of the imported checkpoint."""
  out = tmp_path_factory.mktemp("runs") / "imported"
  weights, configs = released
  argv = ["--weights", weights, "--configs", configs, "--out", out]
  assert __main__.main(["import-weights", *map(str, argv)]) == 0
  return out
