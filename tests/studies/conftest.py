"""The folder and the file of sweeps."""

import pathlib

import pytest

from tests.studies import sweep_file


@pytest.fixture
def at_the_root(monkeypatch):
  monkeypatch.chdir(pathlib.Path(__file__).parents[2])


@pytest.fixture
def file(tmp_path):
  path = tmp_path / "sweep_file.py"
  path.write_text(sweep_file.FILE)
  return path
