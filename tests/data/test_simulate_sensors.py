"""Data of other schemas: simulated, converted and read."""

import json

import numpy as np
import pytest
import rasterio

from flairhub_jax import class_merge, schema_file
from flairhub_jax.__main__ import main
from flairhub_jax.data import (
  dates,
  pipeline,
  records,
  simulate,
  split_csv,
  time_series,
)
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from tests.data import schemas
from tests.data.schemas import OTHER


def test_sensors_that_are_added_to_the_published_ones(tmp_path):
  """One image and one series, with and without statistics."""
  rows = [
    {
      "id": "DRONE_RGB",
      "bands": ["R", "G", "B"],
      "gsd": 0.4,
      "pixels": 256,
      "dtype": "uint16",
      "mean": [3000, 4000, 2000],
      "std": [300, 400, 200],
    },
    {
      "id": "LANDSAT_TS",
      "kind": "series",
      "bands": ["RED", "NIR"],
      "gsd": 25.6,
      "pixels": 4,
      "dtype": "float32",
      "dates": "GLOBAL_LANDSAT_MTD_DATES.gpkg",
    },
  ]
  content = schema_file.to_json(FLAIR_HUB)
  content["sensors"] += rows
  schema = schema_file.parse(content, where="test")
  settings = dict(num_patches=12, pixels=32, num_workers=0, progress=False)
  out = tmp_path / "more"
  names = ["DRONE_RGB", "SENTINEL2_TS", "LANDSAT_TS"]
  simulate.simulate(out, schema=schema, modalities=names, **settings)
  split = split_csv.read_split(simulate.csv_path(out, "train"), schema.columns)
  with rasterio.open(split.file("DRONE_RGB", 0)) as raster:
    image, dtypes = raster.read(), raster.dtypes
  assert image.shape == (3, 32, 32) and set(dtypes) == {"uint16"}
  assert 2500 < image[0].mean() < 3500 and image[0].std() > 50
  with rasterio.open(split.file("LANDSAT_TS", 0)) as raster:
    series = raster.read()
  assert series.shape[0] % 2 == 0 and series.shape[1:] == (4, 4)
  [days] = dates.read_dates(
    out / "GLOBAL_ALL_MTD" / "GLOBAL_LANDSAT_MTD_DATES.gpkg",
    [split.patch_ids[0]],
    cache=tmp_path,
  )
  assert len(days) == series.shape[0] // 2
  # The published sensor is what it is without the others.
  alone = tmp_path / "alone"
  simulate.simulate(alone, modalities=["SENTINEL2_TS"], **settings)
  for path in alone.rglob("*_SENTINEL2_TS_*.tif"):
    assert path.read_bytes() == (out / path.relative_to(alone)).read_bytes()


@pytest.fixture(scope="module")
def travelled(tmp_path_factory):
  """The folder of the files, and of the records made by the commands."""
  folder = tmp_path_factory.mktemp("other")
  file = folder / "schema.json"
  file.write_text(json.dumps(schema_file.to_json(OTHER)))
  argv = ["simulate", "--out", str(folder / "raw"), "--schema", str(file)]
  assert main([*argv, "--patches", "10", "--workers", "0"]) == 0
  argv = ["convert", "--out", str(folder / "records"), "--schema", str(file)]
  for split in ("train", "valid", "test"):
    argv += [f"--{split}", str(simulate.csv_path(folder / "raw", split))]
  assert main([*argv, "--workers", "0"]) == 0
  return folder / "raw", folder / "records"


def options(*, tasks=OTHER.tasks, cloud_filter=None):
  return pipeline.ReadOptions(
    modalities=tuple(OTHER.sensors),
    tasks=tasks,
    reference_date="05-15",
    date_buckets=(64,),
    cloud_filter=cloud_filter,
    periods={},
    averaging="observed",
  )


def test_the_data_set_carries_its_schema(travelled):
  dataset = records.load_dataset(travelled[1])
  assert dataset.schema == OTHER and dataset.version == 2
  assert schema_file.of_dataset(travelled[1]) == OTHER
  assert list(dataset.modalities) == ["DRONE_RGB", "SAT_16", "WEEKLY"]
  assert list(dataset.tasks) == ["COVER", "WOOD", "CODE"]
  assert set(dataset.splits["train"].streams) == {
    "DRONE_RGB", "SAT_16", "WEEKLY", "LAND", "CODE", "PATCH",
  }  # fmt: skip
  # 102.4 m in pixels of 0.5, 2 and 10 m.
  assert dataset.output_size == (205, 205)
  assert dataset.modalities["SAT_16"].shape == (51, 51, 4)
  assert dataset.modalities["WEEKLY"].shape == (None, 10, 10, 2)
  assert dataset.modalities["WEEKLY"].has_quality_mask
  # 255 is a class of LAND, 254 the largest free value.
  assert dataset.tasks["WOOD"].no_data == 254
  assert dataset.tasks["CODE"].dtype == "uint16"


def test_every_file_of_another_schema_comes_back(travelled):
  raw, folder = travelled
  dataset = records.load_dataset(folder)
  split = split_csv.read_split(simulate.csv_path(raw, "train"), OTHER.columns)
  for name, key in (
    ("DRONE_RGB", "values"), ("SAT_16", "values"), ("LAND", "labels"),
    ("CODE", "labels"),
  ):  # fmt: skip
    stream = dataset.open_stream("train", name)
    for row in range(len(split)):
      with rasterio.open(split.file(name, row)) as raster:
        expected = np.moveaxis(raster.read(), 0, -1)
      np.testing.assert_array_equal(stream[row][key], expected)
      assert stream[row][key].dtype == expected.dtype


def test_tasks_read_their_classes_from_one_column(travelled):
  dataset = records.load_dataset(travelled[1])
  reader = pipeline.PatchReader(dataset, "train", options())
  streams = {
    name: dataset.open_stream("train", name) for name in ("LAND", "CODE")
  }
  seen = set()
  totals = {name: np.zeros(task.num_classes, int) for name, task in
            OTHER.tasks.items()}  # fmt: skip
  for index in range(len(reader)):
    labels = reader[index]["labels"]
    stored = streams["LAND"][index]["labels"][..., 0]
    seen |= set(stored.ravel().tolist())
    cover = np.isin(stored, (20, 255)).astype(int)
    np.testing.assert_array_equal(
      labels["COVER"], np.where(stored == 0, 255, cover)
    )
    np.testing.assert_array_equal(labels["WOOD"] == 3, stored == 255)
    np.testing.assert_array_equal(labels["WOOD"] == 1, stored == 11)
    code = streams["CODE"][index]["labels"][..., 0]
    np.testing.assert_array_equal(labels["CODE"] == 0, code == 1201)
    for name, each in labels.items():
      assert each.dtype == np.uint8
      totals[name] += np.bincount(each[each < 255], minlength=len(totals[name]))
  assert {10, 20} <= seen
  counts = dataset.splits["train"].class_counts
  assert {name: tuple(x) for name, x in totals.items()} == dict(counts)


def test_merged_classes_are_read(travelled):
  dataset = records.load_dataset(travelled[1])
  merged = class_merge.merge_classes(
    OTHER.tasks["WOOD"],
    {
      "trees": ["broadleaved", "needleleaved", "orchard"],
      "none": ["other"],
    },
    where="test",
  )
  plain = pipeline.PatchReader(dataset, "train", options())
  reader = pipeline.PatchReader(
    dataset, "train", options(tasks={"WOOD": merged})
  )
  for index in range(len(reader)):
    whole = plain[index]["labels"]["WOOD"]
    np.testing.assert_array_equal(reader[index]["labels"]["WOOD"], whole == 0)


def test_a_mask_of_three_bands_filters_any_series(travelled):
  dataset = records.load_dataset(travelled[1])
  strict = time_series.CloudFilter(
    max_cloud=50, max_snow=50, max_cover=0.2, fallback="least_covered"
  )
  every, kept = (
    pipeline.PatchReader(dataset, "train", options(cloud_filter=each))
    for each in (None, strict)
  )
  stream = dataset.open_stream("train", "WEEKLY")
  dropped = 0
  for index in range(len(every)):
    quality = stream[index]["quality"]
    assert quality.shape[1:] == (10, 10, 3) and quality.max() <= 1
    # Of values 0 and 1, a half is a threshold between them.
    clear = (quality == 0).all(-1).mean((1, 2)) >= 0.8
    if not clear.any():
      continue
    days = every[index]["dates"]["WEEKLY"]
    np.testing.assert_array_equal(kept[index]["dates"]["WEEKLY"], days[clear])
    dropped += (~clear).sum()
  assert dropped


def test_levels_of_a_task_follow_its_parent(tmp_path):
  """Also with values of its own, on another column."""
  colour = "#000000"
  content = {
    "name": "levels",
    "sensors": [{"id": "A", "bands": ["a"], "gsd": 2.0, "dtype": "uint8"}],
    "tasks": [
      {
        "id": "LOW",
        "gsd": 2.0,
        "parent": "HIGH",
        "classes": [
          {"name": f"{p}{i}", "colour": colour, "parent": p,
           "values": [10 * n + i]}
          for n, p in enumerate("xyz")
          for i in range(3 - n)
        ],
      },
      {
        "id": "HIGH",
        "gsd": 2.0,
        "classes": [{"name": p, "colour": colour} for p in "xyz"],
      },
    ],
  }  # fmt: skip
  schema = schema_file.parse(content, where="test")
  simulate.simulate(
    tmp_path / "x", schema=schema, num_patches=10, num_workers=0, progress=False
  )
  low = []
  for path in (tmp_path / "x").rglob("*_LOW_*.tif"):
    with rasterio.open(path) as raster:
      low.append(raster.read())
    with rasterio.open(str(path).replace("_LOW", "_HIGH")) as raster:
      np.testing.assert_array_equal(low[-1] // 10, raster.read())
  assert set(np.unique(low)) == {0, 1, 2, 10, 11, 20}


def test_tasks_without_a_common_value_are_refused(tmp_path):
  content = schema_file.to_json(OTHER)
  for number, row in enumerate(content["tasks"][:2]):
    row.pop("ignored", None)
    for i, each in enumerate(row["classes"]):
      each["values"] = [10 * number + i]
  schema = schema_file.parse(content, where="test")
  with pytest.raises(InputError, match="tasks COVER, WOOD: expected a value"):
    simulate.simulate(
      tmp_path / "x", schema=schema, num_patches=10, pixels=32,
      num_workers=0, progress=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", ["convert", "simulate"])
def test_a_schema_is_a_name_or_a_file(tmp_path, capsys, command):
  argv = [command, "--out", str(tmp_path / "x")]
  if command == "convert":
    argv += ["--train", str(tmp_path / "none.csv")]
  assert main([*argv, "--schema", "flair-hob"]) == 2
  assert "a file, or one of flair-hub, flair-1, flair-2, found 'flair-hob'" in (
    capsys.readouterr().err
  )
  file = tmp_path / "schema.toml"
  file.write_text('name = "x"\n[[sensors]]\nid = "A"\n')
  assert main([*argv, "--schema", str(file)]) == 2
  error = capsys.readouterr().err
  assert "schema.toml, sensors.A.bands: expected this field, found none" in (
    error
  )
  assert not (tmp_path / "x").exists()


def test_the_published_name_is_the_default(tmp_path, capsys):
  argv = ["simulate", "--out", str(tmp_path / "x"), "--patches", "10"]
  argv += ["--pixels", "32", "--workers", "0", "--modalities", "DEM_ELEV"]
  assert main(argv) == 0
  before = (tmp_path / "x" / "simulation.json").read_text()
  assert "schema" not in json.loads(before)
  assert main([*argv, "--schema", "flair-hub"]) == 0
  with pytest.raises(InputError, match='"name": "FLAIR-HUB"'):
    simulate.simulate(
      tmp_path / "x",
      schema=schemas.with_gsd({"SPOT_RGBI": 1.5}),
      num_patches=10,
      pixels=32,
      modalities=["DEM_ELEV"],
    )
