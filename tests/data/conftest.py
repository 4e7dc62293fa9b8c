import pytest

from tests.data import published_layout


@pytest.fixture
def layout(tmp_path):
  return published_layout.write_layout(tmp_path / "raw")
