"""Scores on levels above the classes of a network, and on merges of them."""

import json

import numpy as np
import pytest

from flairhub_jax import metrics
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.inference import coarser

COSIA = "AERIAL_LABEL-COSIA"
CROPS = "ALL_LABEL-LPIS"
LEVEL_3 = f"{CROPS}-3"


def confusion_of(truth, predicted, number):
  matrix = np.zeros((number, number), np.int64)
  np.add.at(matrix, (truth, predicted), 1)
  return matrix


def names_above(task, names):
  """Names of the parents of some classes, by the schema's words alone."""
  parent = {each.name: each.parent for each in FLAIR_HUB.tasks[task].classes}
  return [parent[name] for name in names]


def test_levels_of_crops_score_as_predictions_of_the_level():
  tasks = {LEVEL_3: FLAIR_HUB.tasks[LEVEL_3]}
  levels = coarser.above(FLAIR_HUB, tasks)
  assert [level.title for level in levels] == [
    "crops, level 2 (from level 3)",
    "crops (from level 3)",
  ]
  rng = np.random.default_rng(1)
  truth, predicted = rng.integers(0, 46, (2, 2000))
  rows = coarser.score(
    levels,
    {LEVEL_3: confusion_of(truth, predicted, 46)},
    {LEVEL_3: np.ones(46, bool)},
  )
  fine = FLAIR_HUB.tasks[LEVEL_3].class_names
  pair, task = [[fine[i] for i in each] for each in (truth, predicted)], LEVEL_3
  for row, upper in zip(rows, (f"{CROPS}-2", CROPS), strict=True):
    pair = [names_above(task, names) for names in pair]
    task, known = upper, FLAIR_HUB.tasks[upper].class_names
    positions = [[known.index(name) for name in names] for names in pair]
    expected = confusion_of(*positions, len(known))
    assert (row["task"], row["name"]) == (LEVEL_3, upper)
    np.testing.assert_array_equal(row["confusion"], expected)
    scores = metrics.score(expected, np.ones(len(known), bool))
    assert row["miou"] == scores.miou
    assert list(row["classes"]) == list(known)
  text = coarser.format_table(rows, "test, 3 patches")
  cells = [line.split("  ") for line in text.splitlines()]
  assert any(
    c[0] == "crops, level 2 (from level 3)" and f"{rows[0]['miou']:.2f}" in c
    for c in ([x.strip() for x in line if x] for line in cells)
  )


def test_a_class_without_scored_members_is_not_scored(tmp_path):
  names = FLAIR_HUB.tasks[COSIA].class_names
  groups = {
    "trees": ["deciduous", "coniferous", "ligneous"],
    "none": ["clear cut", "mixed", "undefined"],
  }
  rest = [n for n in names if all(n not in g for g in groups.values())]
  path = tmp_path / "trees.json"
  path.write_text(json.dumps({"rest": rest, **groups}))
  tasks = {COSIA: FLAIR_HUB.tasks[COSIA]}
  (level,) = coarser.of_files([f"{COSIA}={path}"], tasks)
  assert level.title == "trees (from land cover)"
  assert coarser.above(FLAIR_HUB, tasks) == []

  matrix = np.zeros((19, 19), np.int64)
  building, deciduous, ligneous, mixed = 0, 12, 16, 17
  matrix[building, building] = 60
  matrix[deciduous, ligneous] = 30  # of one coarser class: right
  matrix[deciduous, building] = 10
  matrix[building, mixed] = 5  # of no scored class: ignored
  (row,) = coarser.score([level], {COSIA: matrix}, {COSIA: np.arange(19) < 15})
  assert list(row["classes"]) == ["rest", "trees"]
  assert row["overall_accuracy"] == 90
  assert row["classes"]["trees"]["iou"] == 75


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ('{"a": ["building", "castle"]}', "expected any of building, .*'castle'"),
    ('{"a": ["building"]}', "expected every class once, found none with green"),
    ('{"a": "building"}', 'expected a list of classes, found "building"'),
    ('["building"]', "expected a JSON object, found list"),
    ("{}", "expected classes, such as"),
    ("{", "expected JSON"),
  ],
)
def test_a_wrong_merge_is_one_line(tmp_path, content, message):
  path = tmp_path / "merge.json"
  path.write_text(content)
  with pytest.raises(InputError, match=message) as error:
    coarser.of_files([f"{COSIA}={path}"], FLAIR_HUB.tasks)
  assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
  "word", ["merge.json", "ROOFS=merge.json", f"{COSIA}="]
)
def test_a_merge_names_a_task_and_a_file(word):
  with pytest.raises(InputError, match=r"^--merge: expected"):
    coarser.of_files([word], FLAIR_HUB.tasks)
