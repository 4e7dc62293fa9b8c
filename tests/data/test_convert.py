import csv
import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from flairhub_jax.__main__ import main
from flairhub_jax.data import (
  convert,
  geotiff,
  rasters,
  records,
  workers,
)
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from tests.data import published_layout
from tests.data.published_layout import MASK, contents, run

SENSORS = FLAIR_HUB.sensors
COLUMNS = FLAIR_HUB.label_columns


@pytest.fixture(scope="module")
def many(tmp_path_factory):
  """Enough patches for six shards."""
  return published_layout.write_layout(
    tmp_path_factory.mktemp("many"),
    num_patches=90,
    columns=("AERIAL_RGBI", "SENTINEL2_TS", "AERIAL_LABEL-COSIA"),
  )


@pytest.fixture(scope="module")
def undisturbed(many, tmp_path_factory):
  out = tmp_path_factory.mktemp("undisturbed") / "out"
  run(many, out)
  return contents(out)


# ---- records and statistics --------------------------------------------------


def test_every_file_comes_back_as_it_was(layout, tmp_path):
  dataset = run(layout, tmp_path / "out")
  assert set(dataset.modalities) == set(SENSORS)
  for row in range(3):
    for column in (*SENSORS, *COLUMNS):
      record = dataset.open_stream("train", column)[row]
      values = published_layout.values_of(column, row)
      if column in COLUMNS:
        np.testing.assert_array_equal(record["labels"], values)
      elif SENSORS[column].is_series:
        bands = len(SENSORS[column].bands)
        for t in range(published_layout.NUM_DATES):
          date = values[..., t * bands : (t + 1) * bands]
          np.testing.assert_array_equal(record["values"][t], date)
        first = np.datetime64("2019-01-01", "D").astype(int)
        assert record["dates"].tolist() == [first, first + 5, first + 10]
      else:
        np.testing.assert_array_equal(record["values"], values)
    mask = dataset.open_stream("train", "SENTINEL2_TS")[row]["quality"]
    stored = published_layout.values_of(MASK, row)
    np.testing.assert_array_equal(mask[1, ..., 0], stored[..., 2])
    np.testing.assert_array_equal(mask[1, ..., 1], stored[..., 3])


def test_the_place_is_that_of_the_labels(layout, tmp_path):
  dataset = run(layout, tmp_path / "out")
  place = json.loads(bytes(dataset.open_stream("train", "PATCH")[1]["json"]))
  expected = published_layout.georeference("AERIAL_LABEL-COSIA", 1)
  assert place["patch_id"] == layout.rows[1]["patch_id"]
  assert tuple(place["transform"]) == expected.transform
  assert (place["height"], place["width"]) == (16, 16) == dataset.output_size
  assert "Lambert-93" in place["crs"]


def test_statistics_and_class_counts(layout, tmp_path):
  dataset = run(layout, tmp_path / "out")
  for name in ("AERIAL_RGBI", "DEM_ELEV"):
    values = np.stack(
      [published_layout.values_of(name, row) for row in range(3)]
    ).astype(float)
    for i, band in enumerate(SENSORS[name].bands):
      actual = dataset.modalities[name].statistics[band]
      pixels = values[..., i]
      assert actual["mean"] == pytest.approx(pixels.mean(), rel=1e-12)
      assert actual["std"] == pytest.approx(pixels.std(), rel=1e-9)
      assert (actual["min"], actual["max"]) == (pixels.min(), pixels.max())
  for name, task in FLAIR_HUB.tasks.items():
    labels = [
      published_layout.values_of(task.stream, row)[..., task.band]
      for row in range(3)
    ]
    counts = np.bincount(np.ravel(labels), minlength=task.num_classes)
    assert dataset.splits["train"].class_counts[name] == tuple(counts)


def test_statistics_are_those_of_the_training_split(tmp_path):
  small = published_layout.write_layout(
    tmp_path / "raw", columns=("SPOT_RGBI",)
  )
  values = published_layout.values_of("SPOT_RGBI", 0)[..., 0]
  rows = small.rows
  small.rows = rows[:1]
  small.write_csv()
  other = published_layout.Layout(
    small.folder, small.csv.with_name("TEST.csv"), rows[1:]
  )
  other.write_csv()
  both = {"train": small.csv, "test": other.csv}
  dataset = convert.convert(
    both, tmp_path / "both", num_workers=0, progress=False
  )
  actual = dataset.modalities["SPOT_RGBI"].statistics["R"]
  assert actual["mean"] == pytest.approx(values.mean(), rel=1e-12)
  without = run(other, tmp_path / "without", split="test")
  assert without.modalities["SPOT_RGBI"].statistics["R"]["mean"] is not None
  assert list(dataset.splits) == ["train", "test"]


def test_an_empty_cell_is_an_absent_modality(layout, tmp_path):
  layout.rows[1]["DEM_ELEV"] = ""
  layout.rows[2]["SENTINEL1-ASC_TS"] = ""
  layout.rows[0]["SENTINEL2_TS"] = layout.rows[0][MASK] = ""
  for row in layout.rows:
    row["SPOT_RGBI"] = ""
  layout.write_csv()
  dataset = run(layout, tmp_path / "out")
  absent = dataset.splits["train"].absent
  assert {name: n for name, n in absent.items() if n} == {
    "DEM_ELEV": 1,
    "SENTINEL2_TS": 1,
    "SENTINEL1-ASC_TS": 1,
  }
  # A column without any file gives no information, not even a size.
  assert "SPOT_RGBI" not in dataset.modalities
  for name, row in (("DEM_ELEV", 1), ("SENTINEL1-ASC_TS", 2)):
    stream = dataset.open_stream("train", name)
    assert {k: v.shape for k, v in stream[row].items()} == {"absent": (0,)}
    assert "values" in stream[0]


def test_missing_measurements_stay_and_do_not_count(layout, tmp_path):
  values = published_layout.values_of("SENTINEL1-ASC_TS", 0)
  values[0, 0, 0], values[1, 1, 2] = np.nan, np.inf
  published_layout.write(
    layout.file("SENTINEL1-ASC_TS", 0), values, "SENTINEL1-ASC_TS", 0
  )
  dataset = run(layout, tmp_path / "out")
  actual = dataset.open_stream("train", "SENTINEL1-ASC_TS")[0]["values"]
  assert np.isnan(actual[0, 0, 0, 0]) and np.isnan(actual[1, 1, 1, 0])
  assert np.isnan(actual).sum() == 2
  statistics = dataset.modalities["SENTINEL1-ASC_TS"].statistics
  assert np.isfinite(list(statistics["VV"].values())).all()


def test_one_band_of_crop_labels_is_enough(layout, tmp_path):
  for row in range(3):
    values = published_layout.values_of("ALL_LABEL-LPIS", row)[..., :1]
    path = layout.file("ALL_LABEL-LPIS", row)
    published_layout.write(path, values, "ALL_LABEL-LPIS", row)
  dataset = run(layout, tmp_path / "out")
  assert dataset.tasks["ALL_LABEL-LPIS"].shape == (16, 16, 1)


# ---- workers and interruptions -----------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_do_not_change_a_byte(many, undisturbed, tmp_path, num_workers):
  run(many, tmp_path / "out", num_workers)
  assert contents(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_killed_conversion_continues(
  many, undisturbed, tmp_path, num_workers
):
  out = tmp_path / "out"
  command = [sys.executable, "-m", "flairhub_jax", "convert"]
  command += ["--train", str(many.csv), "--out", str(out)]
  command += ["--workers", str(num_workers)]
  process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
  while not list(out.glob(".progress/train-*.json")):
    assert process.poll() is None
    time.sleep(0.002)
  children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
  workers = children.read_text().split()
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not (out / "dataset.json").exists()
  with pytest.raises(InputError, match=r"no dataset\.json"):
    records.load_dataset(out)
  deadline = time.monotonic() + 10
  while any(pathlib.Path("/proc", pid).exists() for pid in workers):
    assert time.monotonic() < deadline, "workers outlive their parent"
    time.sleep(0.01)
  finished = {p: p.stat().st_mtime_ns for p in out.glob(".progress/train-*")}
  assert 0 < len(finished) < 6
  shards = {
    path: path.stat().st_mtime_ns
    for progress in finished
    for path in out.glob(f"train/*-{progress.stem[-5:]}-of-*")
  }
  run(many, out)
  assert contents(out) == undisturbed
  assert shards and all(p.stat().st_mtime_ns == t for p, t in shards.items())


def test_a_changed_file_is_converted_again(many, undisturbed, tmp_path):
  out = tmp_path / "out"
  with pytest.raises(RuntimeError, match="enough"):
    _convert_some(many, out, num_shards=2)
  path = many.file("AERIAL_RGBI", 0)
  before = path.read_bytes()
  try:
    values = published_layout.values_of("AERIAL_RGBI", 0)
    published_layout.write(path, 255 - values, "AERIAL_RGBI", 0)
    dataset = run(many, out)
  finally:
    path.write_bytes(before)
  actual = dataset.open_stream("train", "AERIAL_RGBI")[0]["values"]
  np.testing.assert_array_equal(actual, 255 - values)
  assert set(contents(out)) == set(undisturbed)


def _convert_some(layout, out, num_shards):
  written = workers.run_jobs

  def run_jobs(*args):
    for i, done in enumerate(written(*args)):
      yield done
      if i + 1 == num_shards:
        raise RuntimeError("enough")

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(workers, "run_jobs", run_jobs)
    run(layout, out)


def test_the_same_command_again_does_nothing(layout, tmp_path, capsys):
  out = tmp_path / "out"
  run(layout, out)
  before = contents(out)
  times = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
  command = ["convert", "--train", str(layout.csv), "--out", str(out)]
  assert main(command) == 0
  assert "already converted" in capsys.readouterr().err
  assert contents(out) == before
  assert all(path.stat().st_mtime_ns == t for path, t in times.items())


def test_another_input_is_refused_and_nothing_is_touched(layout, tmp_path):
  out = tmp_path / "out"
  run(layout, out)
  before = contents(out)
  layout.rows.pop()
  layout.write_csv()
  with pytest.raises(InputError, match=r"other files: train TRAIN\.csv"):
    run(layout, out)
  with pytest.raises(InputError, match="other files"):
    run(layout, out, split="test")
  assert contents(out) == before


def test_a_folder_with_other_files_is_refused(layout, tmp_path):
  with pytest.raises(InputError, match="a new or empty folder"):
    run(layout, layout.folder)
  with pytest.raises(InputError, match="expected a folder, found a file"):
    run(layout, layout.csv)
  (tmp_path / "empty").mkdir()
  run(layout, tmp_path / "empty")


def test_two_conversions_into_one_folder(layout, tmp_path):
  with convert._claim(tmp_path / "out"):
    with pytest.raises(InputError, match="no other conversion"):
      run(layout, tmp_path / "out")


# ---- the command -------------------------------------------------------------


def test_the_command_summarises_the_data_set(layout, tmp_path, capsys):
  out = str(tmp_path / "out")
  command = ["convert", "--valid", str(layout.csv), "--out", out]
  assert main([*command, "--workers", "0"]) == 0
  said = capsys.readouterr()
  for argv in ("valid", "SENTINEL2_TS", "2 x 2 x 10", "3-3", "building", "%"):
    assert argv in said.out


def test_the_command_exits_with_2(layout, tmp_path, capsys):
  assert main(["convert", "--out", str(tmp_path / "out")]) == 2
  assert "--train" in capsys.readouterr().err
  layout.file("DEM_ELEV", 1).unlink()
  command = ["convert", "--train", str(layout.csv), "--out"]
  assert main([*command, str(tmp_path / "out"), "--workers", "0"]) == 2
  assert "DEM_ELEV_AF-S1-1_0-1.tif" in capsys.readouterr().err
  assert main([*command, str(tmp_path / "out"), "--workers", "-1"]) == 2


# ---- samples beside the project ----------------------------------------------


def test_bands_are_split_into_dates_as_in_the_reference(origin):
  fixture = origin.arrays("units/elevation_reshape")
  stacked = np.moveaxis(fixture["s"], 0, -1)
  bands = SENSORS["SENTINEL2_TS"].bands
  parted = rasters.split_dates("x.tif", stacked, bands)
  np.testing.assert_array_equal(np.moveaxis(parted, -1, 1), fixture["s10"])


def test_items_equal_the_references(origin, minidata):
  """Its items without filter, normalised as `config_used` says."""
  items = origin.arrays("e2e/dataset_items")
  used = origin.settings("e2e/dataset_items")["config_used"]
  for row in range(3):
    for name, modality in SENSORS.items():
      values = minidata.open_stream("test", name)[row]["values"]
      channels = used["inputs_channels"].get(name, range(1, 99))
      channels = [c - 1 for c in channels if c <= len(modality.bands)]
      values = np.moveaxis(values[..., channels].astype(np.float32), -1, -3)
      if f"{name}_means" in used["normalization"]:
        mean = np.reshape(used["normalization"][f"{name}_means"], (-1, 1, 1))
        std = np.reshape(used["normalization"][f"{name}_stds"], (-1, 1, 1))
        values = ((values - mean) / std).astype(np.float32)
      expected = items[f"nofilter_rawdem/{row}/{name}/sample"]
      actual = origin.rule.sample(values, expected.size)
      np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    for task in COLUMNS:
      actual = minidata.open_stream("test", task)[row]["labels"][..., 0]
      expected = items[f"nofilter_rawdem/{row}/{task}/argmax"]
      np.testing.assert_array_equal(actual, expected)


def test_dates_equal_the_references(origin, minidata):
  items = origin.arrays("e2e/dataset_items")
  for row in range(3):
    for name in ("SENTINEL2", "SENTINEL1-ASC", "SENTINEL1-DESC"):
      days = minidata.open_stream("test", f"{name}_TS")[row]["dates"]
      expected = items[f"nofilter_rawdem/{row}/{name}_DATES"]
      offset = days - expected
      # It counts from a day of the year; ours are from 1970.
      assert len(days) == len(expected) and len(set(offset.tolist())) == 1


def test_real_time_series(shared, tmp_path):
  path = shared / "real" / "treesatai_ts" / "csv" / "TREESATAI.csv"
  dataset = convert.convert(
    {"test": path}, tmp_path / "out", num_workers=0, progress=False
  )
  assert dataset.modalities["AERIAL_RGBI"].shape == (304, 304, 4)
  assert dataset.modalities["SENTINEL2_TS"].shape == (None, 6, 6, 10)
  assert dataset.modalities["SENTINEL2_TS"].max_dates == 146
  assert dataset.modalities["SENTINEL1-DESC_TS"].max_dates == 235
  stream = dataset.open_stream("test", "SENTINEL1-DESC_TS")
  missing = [np.isnan(stream[row]["values"]).sum() for row in range(4)]
  assert missing == [4, 0, 0, 0]


def test_real_labels(shared, tmp_path):
  folder = shared / "real" / "chesapeake_lc" / "csv"
  splits = {"train": folder / "TRAIN.csv", "valid": folder / "VALID.csv"}
  dataset = convert.convert(
    splits, tmp_path / "out", num_workers=0, progress=False
  )
  for split, path in splits.items():
    with open(path, encoding="utf-8") as file:
      rows = list(csv.DictReader(file))
    assert dataset.splits[split].num_patches == len(rows)
    for name, key in (
      ("AERIAL_RGBI", "values"),
      ("AERIAL_LABEL-COSIA", "labels"),
    ):
      stream = dataset.open_stream(split, name)
      for i, row in enumerate(rows):
        values, _ = geotiff.read_raster(folder / row[name])
        np.testing.assert_array_equal(stream[i][key], values)
    counts = dataset.splits[split].class_counts["AERIAL_LABEL-COSIA"]
    assert {v for v, n in enumerate(counts) if n} <= {3, 8, 12}
