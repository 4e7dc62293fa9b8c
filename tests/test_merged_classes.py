"""Runs on merged classes, from the command line to the network."""

import jax
import numpy as np
import pytest

from flairhub_jax import __main__, class_merge, configuration, metrics
from flairhub_jax.configs import base
from flairhub_jax.errors import InputErrors
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build, segmenter
from flairhub_jax.training import class_counts

COSIA = "AERIAL_LABEL-COSIA"
NAMES = FLAIR_HUB.tasks[COSIA].class_names
SEALED = ("building", "impervious surface")
UNSCORED = ("clear cut", "ligneous", "mixed", "undefined")
OTHERS = tuple(n for n in NAMES if n not in (*SEALED, *UNSCORED))
MERGE = {"sealed": SEALED, "open land": OTHERS, "unknown": UNSCORED}


def merged(*words, merge=MERGE, task=COSIA):
  overrides = [f"--config.tasks.{task}.merge={merge!r}", *words]
  return configuration.apply_overrides(
    base.get_config(), overrides, where="base"
  )


def test_the_command_line_merges_classes():
  config = merged()
  assert config.tasks[COSIA].merge.to_dict() == MERGE
  # No class of the last one is scored.
  assert config.tasks[COSIA].class_weights == (1.0, 1.0, 0.0)
  task = configuration.label_tasks(config)[COSIA]
  assert task.class_names == tuple(MERGE)
  assert task.palette[0].tolist() == [0xDB, 0x0E, 0x9A]  # of buildings
  network = build.build_segmenter(config)
  assert network.tasks == ((COSIA, 19),) and max(network.merged[0][1]) == 2
  assert metrics.score_names(task, [1])[-1] == f"{COSIA}/iou/open land"
  again = configuration.from_json(configuration.to_json(config))
  assert configuration.label_tasks(again) == {COSIA: task}
  assert configuration.differences(config, again) == []


def test_another_order_of_merged_classes_is_another_configuration():
  other = merged(merge=dict(reversed(MERGE.items())))
  names = configuration.label_tasks(other)[COSIA].class_names
  assert names == tuple(MERGE)[::-1]
  assert other.tasks[COSIA].class_weights == (0.0, 1.0, 1.0)
  lines = configuration.differences(merged(), other)
  assert [line.partition(":")[0] for line in lines] == [
    f"config.tasks.{COSIA}.class_weights",
    f"config.tasks.{COSIA}.merge",
  ]


def test_weights_may_be_given_with_a_merge_and_come_from_a_file():
  weights = f"--config.tasks.{COSIA}.class_weights=(2.0, 1.0, 0.5)"
  assert merged(weights).tasks[COSIA].class_weights == (2.0, 1.0, 0.5)
  config = base.get_config()  # a file that sets the merge alone
  config.tasks[COSIA].merge = MERGE
  config = configuration.complete(config.to_dict())
  assert config.tasks[COSIA].class_weights == (1.0, 1.0, 0.0)
  other = {"all": NAMES}
  config = configuration.apply_overrides(
    config, [f"--config.tasks.{COSIA}.merge={other}"], where="x"
  )
  assert config.tasks[COSIA].merge.to_dict() == other
  assert config.tasks[COSIA].class_weights == (1.0,)
  with pytest.raises(InputErrors, match=r"class_weights: expected 3 numbers"):
    merged(f"--config.tasks.{COSIA}.class_weights=(1.0, 1.0)")


@pytest.mark.parametrize(
  ("merge", "expected", "found"),
  [
    ({"a": ("castle",)}, "merge.a: expected any of building, ", "'castle'"),
    (
      {"a": NAMES, "b": ("water",)},
      "merge.b: expected 'water' once",
      "it in 'a' too",
    ),
    ({"a": NAMES[:-1]}, "merge: expected every class once", "with undefined"),
    ({"a": "water"}, "merge.a: expected one or more names", "'water'"),
    ("water", "merge: expected", "'water'"),
    ({"a.b": NAMES}, "merge: expected names of classes without a dot", "'a.b'"),
  ],
)
def test_a_wrong_merge_is_one_line(capsys, merge, expected, found):
  field = f"--config.tasks.{COSIA}.merge"
  argv = ["describe", "--config=quickstart", f"{field}={merge!r}"]
  assert __main__.main(argv) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert f"config.tasks.{COSIA}.{expected}" in line
  assert line.endswith(found)


@pytest.mark.parametrize(
  ("word", "expected"),
  [
    (f"{COSIA}.merge=building", "expected {'new class': ('class', …), …}"),
    ("ROOFS.merge={'a': ('b',)}", "expected a task of AERIAL_LABEL-COSIA, "),
  ],
)
def test_a_merge_that_is_no_field_is_one_line(capsys, word, expected):
  argv = ["describe", "--config=quickstart", f"--config.tasks.{word}"]
  assert __main__.main(argv) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert expected in line


def test_pixels_of_merged_classes_are_added():
  counts = {COSIA: tuple(range(19)), "ALL_LABEL-LPIS": (1,) * 23}
  actual = class_counts.of_merged(merged(), counts)
  assert actual == {COSIA: (0 + 3, sum(range(15)) - 3, 15 + 16 + 17 + 18)}
  assert class_counts.of_merged(merged(), {}) == {}
  unmerged = class_counts.of_merged(base.get_config(), counts)
  assert unmerged == {COSIA: tuple(range(19))}


def test_a_merged_matrix_is_that_of_merged_pixels():
  rng = np.random.default_rng(0)
  pairs = rng.integers(0, 19, (2, 500))
  confusion = np.zeros((19, 19), np.int64)
  np.add.at(confusion, tuple(pairs), 1)
  task = configuration.label_tasks(merged())[COSIA]
  groups = class_merge.members(FLAIR_HUB.tasks[COSIA], task)
  expected = np.zeros((3, 3), np.int64)
  np.add.at(expected, tuple(groups[pairs]), 1)
  actual = class_merge.merge_confusion(confusion, groups, 3)
  np.testing.assert_array_equal(actual, expected)


def test_probabilities_of_merged_classes_are_sums(tmp_path):
  """A network of 19 classes gives those of three with the same weights."""
  logits = np.random.default_rng(0).normal(size=(1, 2, 2, 19)) * 3
  logits = logits.astype(np.float32)
  groups = build.build_segmenter(merged()).merged[0][1]
  merged_logits = segmenter.merge_logits(logits, groups)
  probabilities = np.asarray(jax.nn.softmax(logits, -1))
  expected = np.zeros((1, 2, 2, 3), np.float32)
  for i, group in enumerate(groups):
    expected[..., group] += probabilities[..., i]
  np.testing.assert_allclose(
    jax.nn.softmax(merged_logits, -1), expected, atol=1e-6
  )
