"""Lengths of series: known before they are read, few in number."""

import json
import shutil

import numpy as np
import pytest

from flairhub_jax.configs import base
from flairhub_jax.data import pipeline, records, series_lengths
from flairhub_jax.errors import InputError

SERIES = ("SENTINEL2_TS", "SENTINEL1-ASC_TS")


def reading(buckets=(4, 8, 16, 32, 64), **cloud_filter):
  config = base.get_config()
  config.data.modalities = ("AERIAL_RGBI", *SERIES)
  config.data.date_buckets = buckets
  config.data.cloud_filter.update(cloud_filter)
  return pipeline.build_read_options(config)


def dates_read(dataset, split, settings):
  """Dates that the reader yields, patch by patch."""
  reader = pipeline.PatchReader(dataset, split, settings)
  examples = [reader[i] for i in range(len(reader))]
  return {n: [len(e["dates"][n]) for e in examples] for n in SERIES}


def counted(dataset, split, settings):
  return series_lengths._count(dataset, split, SERIES, settings.cloud_filter)


@pytest.fixture
def copied(converted, tmp_path):
  caches = shutil.ignore_patterns("num_dates-*")
  shutil.copytree(converted, tmp_path / "records", ignore=caches)
  return tmp_path / "records"


@pytest.mark.parametrize(
  "cloud_filter", [{}, {"enabled": False}, {"max_cloud": 50.0}]
)
def test_counts_are_those_of_the_dates_that_are_read(converted, cloud_filter):
  dataset = records.load_dataset(converted)
  settings = reading(**cloud_filter)
  for split in dataset.splits:
    actual = counted(dataset, split, settings)
    for name, expected in dates_read(dataset, split, settings).items():
      assert actual[name].tolist() == expected
      assert max(expected) > 4


def test_records_are_not_read_for_the_filter_of_the_conversion(
  converted, monkeypatch
):
  dataset = records.load_dataset(converted)
  monkeypatch.setattr(series_lengths, "count_dates", None)
  for settings in (reading(), reading(enabled=False)):
    assert counted(dataset, "train", settings).keys() == set(SERIES)


def test_another_filter_is_counted_once(copied, monkeypatch):
  dataset = records.load_dataset(copied)
  settings = reading(max_cover=0.5)
  first = counted(dataset, "train", settings)
  (cache,) = (copied / "train").glob("num_dates-*")
  # What was damaged is counted again.
  cache.write_bytes(cache.read_bytes()[:-1] + b"?")
  again = counted(dataset, "train", settings)
  monkeypatch.setattr(series_lengths, "count_dates", None)
  kept = counted(dataset, "train", settings)
  for name in SERIES:
    np.testing.assert_array_equal(first[name], again[name])
    np.testing.assert_array_equal(first[name], kept[name])


def test_data_converted_before_dates_were_counted(copied):
  expected = counted(records.load_dataset(copied), "train", reading())
  path = copied / records.DATASET_FILE
  content = json.loads(path.read_text())
  for split in content["splits"].values():
    del split["num_dates"]
  path.write_text(json.dumps(content))
  shutil.rmtree(copied / "train" / "num_dates.safetensors", ignore_errors=True)
  actual = counted(records.load_dataset(copied), "train", reading())
  for name in SERIES:
    np.testing.assert_array_equal(actual[name], expected[name])


def test_spoilt_counts_are_refused(copied):
  path = copied / "train" / "num_dates.safetensors"
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  with pytest.raises(InputError, match="sha256"):
    counted(records.load_dataset(copied), "train", reading())
  path.write_bytes(content[:-1])
  with pytest.raises(InputError, match="bytes"):
    records.load_dataset(copied)


def test_no_choice_pads_beyond_the_longest_series(converted):
  dataset = records.load_dataset(converted)
  settings = reading()
  padding = pipeline.PatchReader(dataset, "train", settings).padding
  read = dates_read(dataset, "train", settings)
  longest = {name: max(numbers) for name, numbers in read.items()}
  assert padding.longest == longest
  for choice in padding.choices:
    assert all(choice[name] <= longest[name] for name in SERIES)
  for patch in range(len(read[SERIES[0]])):
    lengths = {name: read[name][patch] for name in SERIES}
    number = padding.choice_of[patch]
    fits = [
      all(lengths[name] <= choice[name] for name in SERIES)
      for choice in padding.choices
    ]
    assert number == fits.index(True)


def test_series_beyond_the_largest_bucket_are_thinned(converted):
  dataset = records.load_dataset(converted)
  reader = pipeline.PatchReader(dataset, "train", reading(buckets=(4,)))
  assert reader.padding.choices == (dict.fromkeys(SERIES, 4),)
  batch = pipeline.example_batch(reader)
  assert batch["dates"]["SENTINEL1-ASC_TS"].shape == (1, 4)


def test_averaged_series_have_a_known_length(converted):
  config = base.get_config()
  config.data.modalities = SERIES
  config.inputs.SENTINEL2_TS.temporal_average = "monthly"
  settings = pipeline.build_read_options(config)
  dataset = records.load_dataset(converted)
  padding = pipeline.PatchReader(dataset, "train", settings).padding
  assert padding.longest["SENTINEL2_TS"] == 12


# ---- random lengths of three series ------------------------------------------


class Patches(pipeline.PatchReader):
  """Patches without images, of three series of random lengths."""

  def __init__(self, lengths, padding):
    self.lengths, self.padding = lengths, padding

  def __len__(self):
    return len(self.padding.choice_of)

  def __getitem__(self, index):
    dates = {
      name: np.arange(numbers[index], dtype=np.int32)
      for name, numbers in self.lengths.items()
    }
    return {
      "inputs": {n: np.ones((len(x), 1, 1, 1), "f4") for n, x in dates.items()},
      "dates": dates,
      "valid": {n: np.ones(len(x), bool) for n, x in dates.items()},
      "present": {n: np.True_ for n in dates},
      "labels": {},
      "patch": np.int32(index),
      "sample_mask": np.True_,
    }


@pytest.fixture(scope="module")
def patches():
  rng = np.random.default_rng(0)
  names, buckets = ("A", "B", "C"), (32, 64, 128, 256)
  lengths = {
    name: rng.integers(1, most, 200).astype(np.uint16)
    for name, most in zip(names, (50, 120, 220), strict=True)
  }
  padding = series_lengths.choose(lengths, 200, buckets)
  return Patches(lengths, padding)


def shapes_of(batches, count):
  shapes = [
    tuple(x.shape[1] for x in next(batches)["dates"].values())
    for _ in range(count)
  ]
  batches.close()
  return shapes


def test_an_epoch_of_three_series_has_at_most_one_shape_per_bucket(patches):
  batches = pipeline.train_batches(patches, batch_size=4, seed=0)
  shapes = shapes_of(batches, 200)
  assert 1 < len(set(shapes)) <= 4
  longest = tuple(int(x.max()) for x in patches.lengths.values())
  assert longest in shapes
  assert {s[0] for s in shapes} <= {32, longest[0]}


def test_processes_take_the_same_lengths_without_asking_each_other(patches):
  alone = pipeline.train_batches(patches, batch_size=4, seed=0)
  alone = shapes_of(alone, 100)
  for process in range(2):
    shares = pipeline.train_batches(
      patches, batch_size=2, seed=0, process=(process, 2)
    )
    assert shapes_of(shares, 100) == alone
  shares = pipeline.evaluation_batches(patches, batch_size=2, process=(1, 2))
  whole = pipeline.evaluation_batches(patches, batch_size=4)
  assert shapes_of(shares, 50) == shapes_of(whole, 50)
