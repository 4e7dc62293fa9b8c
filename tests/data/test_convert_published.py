"""Conversion by the published schema, and data of the first version."""

import json

import numpy as np
import pytest

from flairhub_jax.data import (
  geotiff,
  label_values,
  pipeline,
  records,
  shard_files,
)
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.flair_hub import FLAIR_HUB
from tests.data import published_layout
from tests.data.schemas import with_gsd


def test_lower_levels_of_crops_are_checked(layout, tmp_path):
  values = published_layout.values_of("ALL_LABEL-LPIS", 1)
  values[0, :3, 1], values[0, 0, 2] = 31, 46
  path = layout.file("ALL_LABEL-LPIS", 1)
  published_layout.write(path, values, "ALL_LABEL-LPIS", 1)
  with pytest.raises(InputErrors) as caught:
    published_layout.run(layout, tmp_path / "out")
  first, second = caught.value.problems
  assert "ALL_LABEL-LPIS, band 2" in first and "31 in 3 pixels" in first
  assert "values of ALL_LABEL-LPIS-3, found 46 in 1 pixels" in second


def test_labels_of_fewer_bands_have_fewer_tasks(layout, tmp_path, capsys):
  for row in range(3):
    values = published_layout.values_of("ALL_LABEL-LPIS", row)[..., :1]
    path = layout.file("ALL_LABEL-LPIS", row)
    published_layout.write(path, values, "ALL_LABEL-LPIS", row)
  dataset = published_layout.run(layout, tmp_path / "out", progress=True)
  assert list(dataset.tasks) == ["AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"]
  assert "1 of 3 bands, without ALL_LABEL-LPIS-2" in capsys.readouterr().err


def to_version_1(folder, change=lambda labels: labels):
  """Rewrites a data set as the first version of the format would have it."""
  dataset = records.load_dataset(folder)
  content = json.loads((folder / "dataset.json").read_text())
  del content["schema"]
  content["schema_version"] = 1
  for info in content["modalities"].values():
    info["has_snow_cloud"] = info.pop("has_quality_mask")
  columns = dataset.schema.label_columns
  content["tasks"] = {
    name: {"shape": info["shape"]}
    for name, info in content["tasks"].items()
    if name in columns
  }
  for split, info in content["splits"].items():
    info["class_counts"] = {
      name: counts
      for name, counts in info["class_counts"].items()
      if name in columns
    }
    for name in ("SENTINEL2_TS", "ALL_LABEL-LPIS"):
      stream = dataset.open_stream(split, name)
      rows = [stream[i] for i in range(len(stream))]
      (shard,) = info["streams"][name]
      with shard_files.open_shard(
        folder / shard["file"], is_imagery=False
      ) as writer:
        for row in rows:
          if "quality" in row:
            row["snow_cloud"] = row.pop("quality")
          if "labels" in row:
            row["labels"] = change(row["labels"])
          writer.write(shard_files.encode(row))
      described = shard_files.describe_shard(folder, shard["file"], len(rows))
      info["streams"][name] = [vars(described)]
  (folder / "dataset.json").write_text(json.dumps(content))
  return records.load_dataset(folder)


def reader(dataset, *tasks):
  return pipeline.PatchReader(
    dataset,
    "train",
    pipeline.ReadOptions(
      modalities=("SENTINEL2_TS",),
      tasks={name: FLAIR_HUB.tasks[name] for name in tasks},
      reference_date="05-15",
      date_buckets=(8,),
      cloud_filter=pipeline.time_series.CloudFilter(
        max_cloud=50, max_snow=50, max_cover=0.5, fallback="least_covered"
      ),
      periods={},
      averaging="observed",
    ),
  )


TASKS = tuple(FLAIR_HUB.tasks)


def test_data_of_the_first_version_are_read(layout, tmp_path):
  new = published_layout.run(layout, tmp_path / "out")
  before = [reader(new, *TASKS)[i] for i in range(3)]
  old = to_version_1(tmp_path / "out")
  assert old.version == 1 and old.schema == FLAIR_HUB
  assert old.tasks == new.tasks and old.modalities == new.modalities
  for i in range(3):
    again = reader(old, *TASKS)[i]
    for key in ("inputs", "dates", "labels"):
      assert again[key].keys() == before[i][key].keys()
      for name, values in again[key].items():
        np.testing.assert_array_equal(values, before[i][key][name])
  assert len(before[0]["dates"]["SENTINEL2_TS"]) < 3  # the mask was read


def test_unchecked_labels_of_the_first_version_are_reported(layout, tmp_path):
  published_layout.run(layout, tmp_path / "out")

  def change(labels):
    labels[0, 0, 1] = 99
    return labels

  old = to_version_1(tmp_path / "out", change)
  reader(old, "ALL_LABEL-LPIS", "ALL_LABEL-LPIS-3")[1]
  with pytest.raises(InputError) as caught:
    reader(old, "ALL_LABEL-LPIS-2")[1]
  assert "split train, patch D001-2019_AF-S1-1_0-1, ALL_LABEL-LPIS" in (
    str(caught.value)
  )
  assert str(caught.value).endswith("values of ALL_LABEL-LPIS-2, found 99")


def test_labels_that_are_classes_are_not_copied(layout, tmp_path):
  dataset = published_layout.run(layout, tmp_path / "out")
  for task in FLAIR_HUB.tasks.values():
    classes = label_values.Classes(
      task, dataset.tasks[task.id].storage, dataset.schema.tasks[task.id]
    )
    stored = dataset.open_stream("train", task.stream)[0]["labels"]
    assert np.shares_memory(classes(stored)[0], stored)


def test_pixels_of_another_size_are_a_fault_of_published_data(tmp_path):
  """A schema with the true GSD is the remedy."""
  layout = published_layout.write_layout(
    tmp_path / "raw", num_patches=1, columns=("SPOT_RGBI",)
  )
  values = published_layout.values_of("SPOT_RGBI", 0)
  place = geotiff.Georeference(
    "EPSG:2154", (0.8, 0, 0.0, 0, -0.8, 0.0), *values.shape[:2]
  )
  geotiff.write_raster(layout.file("SPOT_RGBI", 0), values, place)
  with pytest.raises(InputErrors, match=r"pixels of 1\.6 m.* found 0\.8 m"):
    published_layout.run(layout, tmp_path / "out")
  schema = with_gsd({"SPOT_RGBI": 0.8})
  dataset = published_layout.run(layout, tmp_path / "out", schema=schema)
  assert dataset.schema.sensors["SPOT_RGBI"].gsd == 0.8
