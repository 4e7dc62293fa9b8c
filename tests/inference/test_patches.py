import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax import mesh
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.inference import origin, partial, patches, report

ORIGIN = {
  "run": "a",
  "step": 3,
  "checkpoint": "saved",
  "weights": "w",
  "config": "c",
  "data": "f",
  "split": "test",
}


def test_an_unfinished_evaluation_is_remembered(tmp_path, monkeypatch):
  monkeypatch.setattr(partial.PartialSums, "SECONDS_BETWEEN", 0.0)
  path = tmp_path / "partial.json"
  memory = partial.PartialSums(path, ORIGIN)
  assert memory.load() == (0, {})
  sums = {
    "confusion": {"task": np.arange(9).reshape(3, 3)},
    "weights": {"level 0": {"task": np.array([[0.1, 1 / 3]])}},
  }
  memory.save(5, sums)
  patches_done, actual = memory.load()
  assert patches_done == 5
  assert actual["confusion"]["task"].dtype == np.int64
  jax.tree.map(np.testing.assert_array_equal, actual, sums)
  other = partial.PartialSums(path, ORIGIN | {"weights": "x"})
  assert other.load() == (0, {})
  path.write_text(path.read_text()[:50])
  assert memory.load() == (0, {})
  memory.remove()
  assert not path.exists()


def test_maps_are_named_as_the_references(tmp_path):
  path = patches.prediction_path(
    tmp_path, "AERIAL_LABEL-COSIA", "D012-2019_AF-S1-27_0-1"
  )
  assert path == (
    tmp_path
    / "AERIAL_LABEL-COSIA"
    / "PRED_D012-2019_AERIAL_LABEL-COSIA_AF-S1-27_0-1.tif"
  )


def test_an_id_without_a_domain_has_a_name(tmp_path):
  path = patches.prediction_path(tmp_path, "AERIAL_LABEL-COSIA", "p0")
  assert path.name == "PRED_p0_AERIAL_LABEL-COSIA.tif"


@pytest.mark.parametrize("key", ["weights", "config", "data", "split"])
def test_results_of_another_origin_are_not_mixed(tmp_path, key):
  origin.claim(tmp_path / "maps", ORIGIN, what="maps")
  moved = ORIGIN | {"run": "b", "step": 4, "checkpoint": "saved again"}
  origin.claim(tmp_path / "maps", moved, what="maps")
  # The name and the step of the first: what made it counts, not its name.
  with pytest.raises(InputError) as caught:
    origin.claim(tmp_path / "maps", ORIGIN | {key: "other"}, what="maps")
  (line,) = str(caught.value).splitlines()
  assert f"{key} other (a, step 3)" in line
  assert f"{key} {ORIGIN[key]} (a, step 3)" in line


def test_maps_of_an_earlier_version_are_not_continued(tmp_path):
  named = {"run": "a", "step": 3, "data": "f", "split": "test"}
  (tmp_path / "origin.json").write_text(json.dumps(named))
  with pytest.raises(InputError, match="found maps of weights unknown"):
    origin.claim(tmp_path, ORIGIN, what="maps")
  (tmp_path / "origin.json").write_text("[")
  with pytest.raises(InputError, match="JSON"):
    origin.claim(tmp_path, ORIGIN, what="maps")


def test_an_unwritable_folder_is_reported(tmp_path):
  (tmp_path / "thesis").mkdir()
  (tmp_path / "thesis" / "thesis.tex").write_text("")
  with pytest.raises(InputError, match="other files"):
    origin.claim(tmp_path / "thesis", ORIGIN, what="maps")
  for folder in ("thesis/thesis.tex", "thesis/thesis.tex/maps"):
    with pytest.raises(InputError, match=r"expected a (writable )?folder"):
      origin.claim(tmp_path / folder, ORIGIN, what="maps")
  with pytest.raises(InputError, match="with --out, found"):
    origin.make_writable(
      tmp_path / "thesis/thesis.tex/x", otherwise=", or another one with --out"
    )


def test_a_digest_is_of_names_and_numbers():
  tree = {"a": np.arange(4.0), "b": {"c": np.zeros((2, 3), np.float32)}}
  same = jax.tree.map(jnp.asarray, tree)
  assert origin.digest(tree | {"a": np.float32(tree["a"])}) == origin.digest(
    same
  )
  others = (
    {"a": np.arange(4.0)[::-1]},
    {"b": {"c": np.zeros((3, 2), np.float32)}},
    {"b": {"d": np.zeros((2, 3), np.float32)}},
  )
  digests = {origin.digest(tree | other) for other in others}
  assert len(digests | {origin.digest(tree)}) == 4


def test_results_hold_what_the_table_says(tmp_path):
  task = "AERIAL_LABEL-COSIA"
  confusion = np.zeros((19, 19), np.int64)
  confusion[0, 0], confusion[6, 6], confusion[6, 0] = 30, 50, 20
  scored = np.arange(19) < 15
  scores = report.write_results(
    tmp_path, {task: confusion}, {task: scored}, FLAIR_HUB.tasks, ORIGIN
  )
  content = json.loads((tmp_path / "scores.json").read_text())
  assert content["tasks"] == scores and content["step"] == 3
  assert scores[task]["classes"]["water"]["iou"] == pytest.approx(500 / 7)
  assert scores[task]["miou"] == pytest.approx((60 + 500 / 7) / 15)
  assert scores[task]["majority"]["overall_accuracy"] == 70
  table = report.format_table(scores, FLAIR_HUB.tasks, "test")
  assert ["water", "70.00", "71.43", "70.00"] in [
    line.split() for line in table.splitlines()
  ]
  assert (tmp_path / f"confusion_{task}.png").stat().st_size > 10_000


class Logits:
  """A network whose logits are its inputs."""

  deterministic = False

  def apply(self, variables, batch, train):
    return {"logits": batch["inputs"]}


def test_a_prediction_is_of_classes_or_of_probabilities():
  task, rng = "AERIAL_LABEL-COSIA", np.random.default_rng(0)
  devices = mesh.build_mesh()
  batch = {
    "inputs": {task: rng.normal(size=(2, 3, 4, 19)).astype(np.float32)},
    "labels": {task: rng.integers(0, 19, (2, 3, 4)).astype(np.uint8)},
    "sample_mask": np.array([True, False]),
  }
  classes, probabilities = (
    patches.make_predict_step(Logits(), devices, output=output)({}, batch)
    for output in ("classes", "probabilities")
  )
  assert classes.keys() == {"classes", "confusion"}
  assert probabilities.keys() == {"probabilities", "confusion"}
  p = np.asarray(probabilities["probabilities"][task])
  assert p.shape == (2, 3, 4, 19) and p.dtype == np.float32
  expected = np.exp(batch["inputs"][task])
  expected /= expected.sum(-1, keepdims=True)
  np.testing.assert_allclose(p, expected, rtol=1e-5)
  np.testing.assert_array_equal(p.argmax(-1), classes["classes"][task])
  for actual in (classes, probabilities):
    assert int(actual["confusion"][task].sum()) == 12  # of the first patch
  default = patches.make_predict_step(Logits(), devices)({}, batch)
  assert default.keys() == classes.keys()


def test_the_drawn_patches_are_spread_over_the_split():
  assert report.sample_patches(100) == [0, 24, 49, 74, 99]
  assert report.sample_patches(2) == [0, 1]
