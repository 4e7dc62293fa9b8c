"""One network on every subset of its modalities."""

import jax
import numpy as np
import pytest

from flairhub_jax.data import pipeline, records
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.inference import evaluation, partial, patches, subsets
from flairhub_jax.models import build, initialise
from tests import tiny


def test_subsets_are_listed_largest_first():
  assert subsets.subsets_of(("a", "b", "c")) == (
    ("a", "b", "c"),
    ("a", "b"),
    ("a", "c"),
    ("b", "c"),
    ("a",),
    ("b",),
    ("c",),
  )


@pytest.fixture(scope="module")
def scored(converted):
  """A drawn network over the test split, with and without what it reads."""
  config = tiny.get_config()
  config.data.path = str(converted)
  config.fusion.kind = "mid_mean"
  dataset = records.load_dataset(converted)
  model = build.build_segmenter(config, output_size=dataset.output_size)
  runner = patches.SplitRunner(model, dataset, "test", config)
  variables = initialise.init_variables(model, runner.example_batch(), seed=3)
  actual = evaluation.evaluate(
    runner,
    model,
    variables,
    tasks=FLAIR_HUB.tasks,
    drawn=[0, 7],
    with_subsets=True,
  )
  return config, dataset, model, runner, variables, actual


def test_the_whole_set_scores_as_without_subsets(scored):
  *_, runner, variables, actual = scored
  expected = runner.confusion(variables)
  whole = actual.by_subset["AERIAL_RGBI", "SENTINEL2_TS"]
  assert whole is actual.confusion and whole.keys() == expected.keys()
  for task, matrix in expected.items():
    np.testing.assert_array_equal(whole[task], matrix)


def test_maps_come_from_the_same_pass(scored):
  *_, runner, variables, actual = scored
  expected = runner.predictions(variables, [0, 7])
  assert actual.maps.keys() == expected.keys()
  jax.tree.map(np.testing.assert_array_equal, actual.maps, expected)


def test_a_killed_evaluation_continues(scored, tmp_path, monkeypatch):
  """With other batches, as another number of devices would have."""
  *_, model, runner, variables, actual = scored
  monkeypatch.setattr(partial.PartialSums, "SECONDS_BETWEEN", 0.0)
  progress = partial.PartialSums(tmp_path / "partial.json", {})

  class Killed(Exception):
    pass

  def kill(patches_done, sums):
    save(patches_done, sums)
    raise Killed

  save = progress.save
  monkeypatch.setattr(progress, "save", kill)
  arguments = dict(drawn=[0, 7], with_subsets=True, progress=progress)
  with pytest.raises(Killed):
    evaluation.evaluate(
      runner, model, variables, tasks=FLAIR_HUB.tasks, **arguments
    )
  monkeypatch.setattr(progress, "save", save)
  monkeypatch.setattr(runner, "batch_size", 2)
  again = evaluation.evaluate(
    runner, model, variables, tasks=FLAIR_HUB.tasks, **arguments
  )
  jax.tree.map(np.testing.assert_array_equal, again.maps, actual.maps)
  for matrices, expected in zip(
    again.by_subset.values(), actual.by_subset.values(), strict=True
  ):
    jax.tree.map(np.testing.assert_array_equal, matrices, expected)


def test_a_subset_scores_as_data_that_lack_the_rest(scored):
  config, dataset, model, _, variables, actual = scored
  options = pipeline.build_read_options(config)
  reader = pipeline.PatchReader(dataset, "test", options)
  batch = pipeline.example_batch(reader)
  forward = jax.jit(model.apply)
  total = {task: 0 for task in config.data.tasks}
  for index in range(len(reader)):
    (batch,) = pipeline.evaluation_batches(
      reader, batch_size=1, patches=[index]
    )
    batch["present"]["AERIAL_RGBI"] = np.array([False])
    batch["inputs"]["AERIAL_RGBI"] = np.zeros_like(
      batch["inputs"]["AERIAL_RGBI"]
    )
    logits = forward(variables, batch)["logits"]
    for task, truth in batch["labels"].items():
      classes = np.asarray(logits[task]).argmax(-1)
      number = logits[task].shape[-1]
      pairs = truth.astype(int)[truth < number] * number
      pairs += classes[truth < number]
      counts = np.bincount(pairs.ravel(), minlength=number**2)
      total[task] = total[task] + counts.reshape(number, number)
  for task, matrix in total.items():
    assert matrix.sum() > 0
    alone = actual.by_subset[("SENTINEL2_TS",)][task]
    # One pixel in a thousand may tie.
    assert np.abs(alone - matrix).sum() <= 2e-3 * matrix.sum()
    whole = actual.confusion[task]
    assert np.abs(whole - matrix).sum() > 0.05 * matrix.sum()
