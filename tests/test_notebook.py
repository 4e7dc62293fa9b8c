"""The notebook runs as it is, and is stored with small outputs."""

import base64
import os
import pathlib

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "experiments" / "notebook" / "first_map.ipynb"


def pictures(notebook):
  """The PNG files among the outputs."""
  return [
    base64.b64decode(output["data"]["image/png"])
    for cell in notebook.cells
    for output in cell.get("outputs", [])
    if "image/png" in output.get("data", {})
  ]


def execute():
  """Runs all cells, with a shorter training."""
  text = NOTEBOOK.read_text(encoding="utf-8")
  assert text.count("num_steps=150") == 1
  text = text.replace("num_steps=150", "num_steps=4")
  notebook = nbformat.reads(text, as_version=4)
  for cell in notebook.cells:
    if cell.cell_type == "code":
      cell.outputs = []
  nbclient.NotebookClient(
    notebook,
    timeout=600,
    resources={"metadata": {"path": str(NOTEBOOK.parent)}},
  ).execute()
  return notebook


@pytest.mark.slow
def test_the_notebook_trains_a_network_and_loads_it(tmp_path, monkeypatch):
  monkeypatch.setenv("TMPDIR", str(tmp_path))
  monkeypatch.delenv("RUN", raising=False)
  before = NOTEBOOK.read_bytes()
  assert len(pictures(execute())) == 2
  [run] = tmp_path.glob("*/run")
  # The same notebook with a run that exists; nothing is trained again.
  log = (run / "log.txt").read_bytes()
  monkeypatch.setenv("RUN", str(run))
  assert len(pictures(execute())) == 2
  assert (run / "log.txt").read_bytes() == log
  assert [path.parent for path in tmp_path.glob("*/run")] == [run.parent]
  assert NOTEBOOK.read_bytes() == before


def test_the_stored_notebook_has_small_outputs():
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  nbformat.validate(notebook)
  stored = pictures(notebook)
  assert len(stored) == 2
  assert sum(map(len, stored)) < 200_000
  text = NOTEBOOK.read_text(encoding="utf-8")
  assert os.sep + "tmp" not in text and str(ROOT) not in text
