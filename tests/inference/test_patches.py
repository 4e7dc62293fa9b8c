import json

import numpy as np
import pytest

from flairhub_jax.errors import InputError
from flairhub_jax.inference import patches, report

ORIGIN = {"run": "a", "step": 3, "data": "f", "split": "test"}


def test_an_unfinished_evaluation_is_remembered(tmp_path, monkeypatch):
  monkeypatch.setattr(patches.PartialConfusion, "SECONDS_BETWEEN", 0.0)
  memory = patches.PartialConfusion(tmp_path / "x" / "partial.json", ORIGIN)
  assert memory.load() == (0, {})
  matrix = np.arange(9).reshape(3, 3)
  memory.save(5, {"task": matrix})
  batches, confusion = memory.load()
  assert batches == 5
  np.testing.assert_array_equal(confusion["task"], matrix)
  other = patches.PartialConfusion(
    tmp_path / "x" / "partial.json", ORIGIN | {"step": 4}
  )
  assert other.load() == (0, {})
  memory.remove()
  assert memory.load() == (0, {})


def test_maps_are_named_as_the_references(tmp_path):
  path = patches.prediction_path(
    tmp_path, "AERIAL_LABEL-COSIA", "D012-2019_AF-S1-27_0-1"
  )
  assert path == (
    tmp_path
    / "AERIAL_LABEL-COSIA"
    / "PRED_D012-2019_AERIAL_LABEL-COSIA_AF-S1-27_0-1.tif"
  )


def test_maps_of_another_run_are_not_mixed(tmp_path):
  patches._claim(tmp_path / "maps", ORIGIN)
  patches._claim(tmp_path / "maps", ORIGIN)
  with pytest.raises(InputError, match="'step': 3"):
    patches._claim(tmp_path / "maps", ORIGIN | {"step": 4})
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "thesis.tex").write_text("")
  with pytest.raises(InputError, match="other files"):
    patches._claim(tmp_path / "other", ORIGIN)


def test_results_hold_what_the_table_says(tmp_path):
  task = "AERIAL_LABEL-COSIA"
  confusion = np.zeros((19, 19), np.int64)
  confusion[0, 0], confusion[6, 6], confusion[6, 0] = 30, 50, 20
  scored = np.arange(19) < 15
  scores = report.write_results(
    tmp_path, {task: confusion}, {task: scored}, ORIGIN
  )
  content = json.loads((tmp_path / "scores.json").read_text())
  assert content["tasks"] == scores and content["step"] == 3
  assert scores[task]["classes"]["water"]["iou"] == pytest.approx(500 / 7)
  assert scores[task]["miou"] == pytest.approx((60 + 500 / 7) / 15)
  assert scores[task]["majority"]["overall_accuracy"] == 70
  table = report.format_table(scores, "test")
  assert "water                        70.00    71.43       70.00" in table
  assert (tmp_path / f"confusion_{task}.png").stat().st_size > 10_000


def test_the_drawn_patches_are_spread_over_the_split():
  assert report.chosen_patches(100) == [0, 24, 49, 74, 99]
  assert report.chosen_patches(2) == [0, 1]
