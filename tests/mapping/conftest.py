import pytest

from tests.mapping import regions


@pytest.fixture(scope="session")
def run(tmp_path_factory):
  """The run of a network of one image."""
  folder = tmp_path_factory.mktemp("runs") / "aerial"
  return regions.write_run(folder, pixels=regions.SIDE)
