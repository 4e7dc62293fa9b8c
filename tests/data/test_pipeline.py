import dataclasses

import jax
import numpy as np
import pytest

from flairhub_jax.data import (
  augmentation,
  pipeline,
  records,
  time_series,
  transforms,
)
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB

OPTIONS = pipeline.ReadOptions(
  modalities=("AERIAL_RGBI", "SENTINEL2_TS", "SENTINEL1-ASC_TS"),
  tasks={
    name: FLAIR_HUB.tasks[name]
    for name in ("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS")
  },
  reference_date="05-15",
  date_buckets=(8, 16, 32),
  cloud_filter=time_series.CloudFilter(
    max_cloud=1, max_snow=1, max_cover=0.05, fallback="least_covered"
  ),
  periods={},
  averaging="observed",
)


SYMMETRY = augmentation.Augmentation((("symmetry", transforms.symmetry, {}),))


@pytest.fixture(scope="module")
def reader(converted):
  return pipeline.PatchReader(records.load_dataset(converted), "train", OPTIONS)


def first(iterator, count):
  """Copies the first batches, because workers reuse their memory."""
  batches = [jax.tree.map(np.array, next(iterator)) for _ in range(count)]
  iterator.close()
  return batches


def train(reader, **changes):
  settings = dict(batch_size=4, seed=3, augment=SYMMETRY) | changes
  return pipeline.train_batches(reader, **settings)


def assert_equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_batch_has_the_shapes_of_the_contract(reader):
  (batch,) = first(train(reader), 1)
  assert batch["inputs"]["AERIAL_RGBI"].shape == (4, 64, 64, 4)
  assert batch["inputs"]["AERIAL_RGBI"].dtype == np.uint8
  series = batch["inputs"]["SENTINEL2_TS"]
  lengths = {name: x.shape[1] for name, x in batch["valid"].items()}
  assert lengths in reader.padding.choices
  assert series.shape[2:] == (10, 10, 10) and series.dtype == np.uint16
  for name in ("dates", "valid"):
    assert batch[name]["SENTINEL2_TS"].shape == series.shape[:2]
  padding = ~batch["valid"]["SENTINEL2_TS"]
  assert not series[padding].any()
  assert np.isfinite(batch["inputs"]["SENTINEL1-ASC_TS"]).all()
  assert batch["labels"]["ALL_LABEL-LPIS"].shape == (4, 64, 64)
  assert batch["labels"]["ALL_LABEL-LPIS"].max() < 23
  assert batch["present"]["AERIAL_RGBI"].all() and batch["sample_mask"].all()


def test_batches_are_the_same_for_0_1_and_2_workers(reader):
  none = first(train(reader), 6)
  for num_workers in (1, 2):
    batches = first(train(reader, num_workers=num_workers), 6)
    assert_equal(none, batches)
    # Grain's own arrays lie in shared memory, which is left behind where a
    # program ends with them.
    assert type(batches[0]["inputs"]["AERIAL_RGBI"]) is np.ndarray


def test_the_position_in_the_data_is_the_step(reader):
  whole = first(train(reader), 8)
  assert_equal(whole[5:], first(train(reader, start_step=5), 3))


def test_another_seed_gives_another_order(reader):
  one, other = (
    first(train(reader, seed=seed), 1)[0]["patch"] for seed in (1, 2)
  )
  assert list(one) != list(other)


def test_every_patch_is_seen_once_per_pass_and_passes_differ(reader):
  num_patches = len(reader)
  batches = first(train(reader, batch_size=1), 2 * num_patches)
  order = [int(batch["patch"][0]) for batch in batches]
  assert sorted(order[:num_patches]) == list(range(num_patches))
  assert sorted(order[num_patches:]) == list(range(num_patches))
  assert order[:num_patches] != order[num_patches:]


def test_the_processes_of_a_run_share_the_patches(reader):
  num_patches = len(reader) // 2 * 2
  parts = [
    [
      int(i)
      for batch in first(
        train(reader, batch_size=1, process=(process, 2)), num_patches // 2
      )
      for i in batch["patch"]
    ]
    for process in (0, 1)
  ]
  assert not set(parts[0]) & set(parts[1])
  assert len(parts[0] + parts[1]) == num_patches


@pytest.mark.parametrize("num_processes", [1, 2])
def test_evaluation_sees_every_patch_once_and_fills_the_last_batch(
  reader, num_processes
):
  seen, lengths = [], []
  for process in range(num_processes):
    batches = list(
      pipeline.evaluation_batches(
        reader,
        batch_size=4 // num_processes,
        process=(process, num_processes),
      )
    )
    lengths.append(len(batches))
    for batch in batches:
      seen += batch["patch"][batch["sample_mask"]].tolist()
  assert sorted(seen) == list(range(len(reader)))
  assert set(lengths) == {pipeline.num_evaluation_batches(len(reader), 4)}


def test_clouded_dates_are_left_out(converted):
  dataset = records.load_dataset(converted)
  unfiltered = dataclasses.replace(OPTIONS, cloud_filter=None)
  kept, full = (
    pipeline.PatchReader(dataset, "train", options)[0]["valid"]["SENTINEL2_TS"]
    for options in (OPTIONS, unfiltered)
  )
  record = dataset.open_stream("train", "SENTINEL2_TS")[0]
  assert len(full) == len(record["dates"])
  assert 0 < len(kept) < len(full)


def test_missing_modalities_are_named(converted):
  dataset = records.load_dataset(converted)
  wanting = dataclasses.replace(OPTIONS, modalities=("SPOT_RGBI",))
  with pytest.raises(InputError, match=r"data\.modalities.*SPOT_RGBI"):
    pipeline.PatchReader(dataset, "train", wanting)
  with pytest.raises(InputError, match="'validation'"):
    pipeline.PatchReader(dataset, "validation", OPTIONS)


def test_padding_equals_the_references(origin):
  fixture = origin.arrays("units/pad_collate")
  batch = pipeline.stack(
    [
      {
        "inputs": {"S": fixture[f"ts{i}"]},
        "dates": {"S": np.arange(1, length + 1, dtype=np.int32)},
        "valid": {"S": np.ones(length, bool)},
        "present": {"S": np.True_},
        "labels": {},
        "patch": np.int32(i),
        "sample_mask": np.True_,
      }
      for i, length in enumerate((3, 5))
    ],
    {"S": 5},
  )
  np.testing.assert_array_equal(batch["inputs"]["S"], fixture["ts"])
  np.testing.assert_array_equal(batch["dates"]["S"], fixture["dates"])
  np.testing.assert_array_equal(batch["valid"]["S"], fixture["dates"] > 0)


def test_an_absent_modality_is_zeros_and_not_present():
  example = {
    "inputs": {"S": np.ones((3, 2, 2, 1), np.float32)},
    "dates": {"S": np.arange(3, dtype=np.int32)},
    "valid": {"S": np.ones(3, bool)},
    "present": {"S": np.True_},
    "labels": {},
    "patch": np.int32(0),
    "sample_mask": np.True_,
  }
  absent = example | {
    "inputs": {"S": np.zeros((0, 2, 2, 1), np.float32)},
    "dates": {"S": np.zeros(0, np.int32)},
    "valid": {"S": np.zeros(0, bool)},
    "present": {"S": np.False_},
  }
  batch = pipeline.stack([example, absent], {"S": 4})
  assert batch["inputs"]["S"].shape == (2, 4, 2, 2, 1)
  assert not batch["valid"]["S"][1].any() and not batch["inputs"]["S"][1].any()
  np.testing.assert_array_equal(batch["present"]["S"], [True, False])


def test_elevation_without_a_value_is_filled(converted, monkeypatch):
  dataset = records.load_dataset(converted)
  reader = pipeline.PatchReader(dataset, "train", OPTIONS)
  hole = np.ones((64, 64, 2), np.float32)
  hole[3, 4, 0] = np.nan
  monkeypatch.setitem(reader._streams, "AERIAL_RGBI", [{"values": hole}])
  assert (reader[0]["inputs"]["AERIAL_RGBI"] == 1).all()
