"""Conversion checks files against the schema of the data set."""

import csv
import json
import pathlib

import numpy as np
import pytest
import rasterio

from flairhub_jax import run_schema, schema_file
from flairhub_jax.__main__ import main
from flairhub_jax.configs import base
from flairhub_jax.data import (
  convert,
  geotiff,
  pipeline,
)
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.training import resolve
from tests.data.schemas import OTHER

METRES = 20.0
STEPS = {
  "DRONE_RGB": 0.5, "SAT_16": 2.0, "WEEKLY": 10.0, "WEEKLY_MASK": 10.0,
  "LAND": 0.5, "CODE": 0.5,
}  # fmt: skip


class Files:
  """Three patches of the other schema, to be changed before conversion."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    (folder / "GLOBAL_ALL_MTD").mkdir(parents=True)
    self.rows = []
    for row in range(3):
      self.rows.append({"patch_id": f"p{row}"})
      for column in STEPS:
        self.write(column, row, self.values(column, row))
    lines = ["patch_id,acquisition_dates"]
    lines += [f"p{row},20240101;20240108;20240115" for row in range(3)]
    self.dates = folder / "GLOBAL_ALL_MTD" / "weekly.csv"
    self.dates.write_text("\n".join(lines))

  def values(self, column, row):
    rng = np.random.default_rng([row, list(STEPS).index(column)])
    size = round(METRES / STEPS[column])
    draw = rng.integers
    match column:
      case "DRONE_RGB":
        return draw(1, 255, (size, size, 3), np.uint8)
      case "SAT_16":
        return draw(-500, 5000, (size, size, 4), np.int16)
      case "WEEKLY":
        return draw(1, 5000, (size, size, 6), np.uint16)
      case "WEEKLY_MASK":
        return draw(0, 2, (size, size, 9), np.uint8)
      case "LAND":
        return rng.choice([0, 10, 11, 20, 255], (size, size, 1)).astype("uint8")
      case _:
        return rng.choice([1101, 1102, 1201, 1999], (size, size, 1)).astype(
          "int32"
        )

  def path(self, column, row):
    return self.folder / f"{column}_{row}.tif"

  def write(self, column, row, values, *, step=None, crs="EPSG:32632", **tags):
    step = step or STEPS[column]
    place = geotiff.Georeference(
      crs, (step, 0, 500_000.0 + METRES * row, 0, -step, 5_000_000.0),
      *values.shape[:2],
    )  # fmt: skip
    geotiff.write_raster(self.path(column, row), values, place)
    with rasterio.open(self.path(column, row), "r+") as raster:
      if "nodata" in tags:
        raster.nodata = tags["nodata"]
      for i, name in enumerate(tags.get("names", ())):
        raster.set_band_description(i + 1, name)
    self.rows[row][column] = f"{column}_{row}.tif"

  def change(self, column, row, function, **options):
    values = function(self.values(column, row))
    self.write(column, row, values, **options)

  def drop(self, *columns):
    for row in self.rows:
      for column in columns:
        del row[column]

  def convert(self, out, schema=OTHER, **options):
    path = self.folder / "TRAIN.csv"
    with open(path, "w", newline="") as file:
      writer = csv.DictWriter(file, list(self.rows[0]))
      writer.writeheader()
      writer.writerows(self.rows)
    return convert.convert(
      {"train": path},
      out,
      schema=schema,
      num_workers=0,
      **{"progress": False, **options},
    )


@pytest.fixture
def files(tmp_path):
  return Files(tmp_path / "raw")


def put(number, value):
  """Sets the first pixels to a value."""

  def change(values):
    values.reshape(-1)[:number] = value
    return values

  return change


def test_labels_of_any_integer_type_and_dates_of_a_csv(files, tmp_path):
  dataset = files.convert(tmp_path / "out")
  stream = dataset.open_stream("train", "CODE")
  for row in range(3):
    labels = stream[row]["labels"]
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, files.values("CODE", row))
  record = dataset.open_stream("train", "WEEKLY")[1]
  start = np.datetime64("2024-01-01").astype(int)
  assert record["dates"].tolist() == [start, start + 7, start + 14]
  mask = files.values("WEEKLY_MASK", 1).reshape(2, 2, 3, 3)
  np.testing.assert_array_equal(record["quality"], np.moveaxis(mask, 2, 0))


def test_values_without_a_class_are_counted_over_the_data_set(files, tmp_path):
  files.change("LAND", 0, put(5, 77))
  files.change("LAND", 2, put(7, 77))
  # Ignored by one task and unknown to the other.
  files.change("LAND", 1, put(3, 12))
  files.change("CODE", 1, put(2, -1))
  files.change("CODE", 2, put(4, 70_000))
  with pytest.raises(InputErrors) as caught:
    files.convert(tmp_path / "out")
  lines = caught.value.problems
  known = "values of classes or ignored values of"
  assert list(lines) == [
    f"LAND, band 1: expected {known} COVER, WOOD, found 77 in 12 pixels of 2"
    f" patches, first p0 ({files.folder}/LAND_0.tif)",
    f"CODE, band 1: expected {known} CODE, found -1 in 2 pixels of 1 patches,"
    f" first p1 ({files.folder}/CODE_1.tif)",
    f"CODE, band 1: expected {known} CODE, found 70000 in 4 pixels of 1"
    f" patches, first p2 ({files.folder}/CODE_2.tif)",
  ]
  assert not (tmp_path / "out" / "dataset.json").exists()
  assert not list((tmp_path / "out").rglob("*.array_record"))


def test_a_value_that_one_of_two_tasks_knows(files, tmp_path):
  files.change("LAND", 0, put(5, 12))
  schema = with_values(OTHER, "WOOD", "other", [0, 10])
  with pytest.raises(InputErrors, match=r"ignored values of WOOD, found 12 in"):
    files.convert(tmp_path / "out", schema)


def with_values(schema, task, name, values):
  content = schema_file.to_json(schema)
  for row in content["tasks"]:
    for each in row["classes"]:
      if (row["id"], each["name"]) == (task, name):
        each["values"] = values
  return schema_file.parse(content, where="test")


def test_pixels_without_data_beside_a_class_of_value_255(files, tmp_path):
  files.change("LAND", 0, put(40, 99), nodata=99)
  dataset = files.convert(tmp_path / "out")
  labels = dataset.open_stream("train", "LAND")[0]["labels"]
  assert (labels[0, :, 0] == 254).all()
  options = pipeline.ReadOptions(
    modalities=("DRONE_RGB",),
    tasks=OTHER.tasks,
    reference_date="05-15",
    date_buckets=(8,),
    cloud_filter=None,
    periods={},
    averaging="observed",
  )
  read = pipeline.PatchReader(dataset, "train", options)[0]["labels"]
  assert (read["COVER"][0] == 255).all() and (read["WOOD"][0] == 255).all()
  assert (read["WOOD"][1:] == 3).sum() == (labels[1:] == 255).sum() > 0
  stored = np.stack(
    [dataset.open_stream("train", "LAND")[i]["labels"] for i in range(3)]
  )
  counts = dataset.splits["train"].class_counts
  assert sum(counts["WOOD"]) == 3 * 40**2 - 40
  assert counts["COVER"] == (
    np.isin(stored, (10, 11)).sum(), np.isin(stored, (20, 255)).sum()
  )  # fmt: skip


def test_no_data_of_the_schema_is_filled(files, tmp_path):
  files.change("SAT_16", 0, put(4, -9999))
  dataset = files.convert(tmp_path / "out")
  values = dataset.open_stream("train", "SAT_16")[0]["values"]
  assert values.dtype == np.int16 and values.min() >= -500
  whole = files.values("SAT_16", 0)
  median = np.median(whole.reshape(-1, 4)[1:], 0)
  np.testing.assert_array_equal(values[0, 0], np.rint(median))
  minimum = dataset.modalities["SAT_16"].statistics["BLUE"]["min"]
  assert minimum >= -500
  patch = json.loads(bytes(dataset.open_stream("train", "PATCH")[0]["json"]))
  assert patch["missing"]["SAT_16"] == 0.01


FAULTS = {
  "type": (
    ("SAT_16", lambda x: x.astype("uint16")),
    {},
    "type int16, found uint16",
  ),
  "bands": (
    ("DRONE_RGB", lambda x: x[..., :2]),
    {},
    "3 bands ('R', 'G', 'B'), found 2",
  ),
  "order of bands": (
    ("DRONE_RGB", lambda x: x),
    {"names": ("B", "G", "R")},
    "bands in the order R, G, B, found B as band 1, by its description",
  ),
  "order of bands of a date": (
    ("WEEKLY", lambda x: x),
    {"names": ("RED", "NIR", "NIR", "RED")},
    "bands in the order RED, NIR, found NIR as band 3, by its description",
  ),
  "size": (
    ("SAT_16", lambda x: np.repeat(np.repeat(x, 2, 0), 2, 1)),
    {"step": 1.0},
    "10 x 10 x 4, as the first patch has, found 20 x 20 x 4",
  ),
  "gsd by a little": (
    ("SAT_16", lambda x: x),
    {"step": 2.05},
    "pixels of 2 m, as the schema says, found 2.05 m",
  ),
  "gsd of labels": (
    ("LAND", lambda x: x),
    {"step": 0.6},
    "pixels of 0.5 m, as the schema says, found 0.6 m",
  ),
  "labels with more bands": (
    ("LAND", lambda x: x[..., [0, 0]]),
    {},
    "40 x 40 x 1, as the first patch has, found 40 x 40 x 2",
  ),
  "labels that are no whole numbers": (
    ("CODE", lambda x: x.astype("float32")),
    {},
    "labels of whole numbers, found float32",
  ),
  "bands of the mask": (
    ("WEEKLY_MASK", lambda x: x[..., :8]),
    {},
    "a multiple of 3 bands ('cloud', 'shadow', 'snow'), found 8 bands",
  ),
  "order of the mask": (
    ("WEEKLY_MASK", lambda x: x),
    {"names": ("snow",)},
    "bands in the order cloud, shadow, snow, found snow as band 1",
  ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_files_that_contradict_the_schema(files, tmp_path, name):
  (column, function), options, expected = FAULTS[name]
  files.change(column, 1, function, **options)
  with pytest.raises(InputErrors) as caught:
    files.convert(tmp_path / "out")
  [line] = caught.value.problems
  assert line.startswith(str(files.path(column, 1))) and expected in line


def test_every_label_file_has_more_bands(files, tmp_path):
  for row in range(3):
    files.change("LAND", row, lambda x: x[..., [0, 0]])
  with pytest.raises(InputErrors, match="expected 1 bands, found 2"):
    files.convert(tmp_path / "out")


@pytest.mark.parametrize("crs", [None, "EPSG:4326"])
def test_a_gsd_is_compared_where_the_file_is_in_metres(files, tmp_path, crs):
  for column, step in STEPS.items():
    for row in range(3):
      files.change(column, row, lambda x: x, step=step / 1000, crs=crs)
  files.convert(tmp_path / "out")


def test_descriptions_of_other_words_are_no_fault(files, tmp_path):
  files.change("DRONE_RGB", 1, lambda x: x, names=("r", "green", None))
  files.convert(tmp_path / "out")


def test_a_whole_patch_in_reduced_size_is_noted(files, tmp_path, capsys):
  content = schema_file.to_json(OTHER)
  content["sensors"][0]["pixels"] = 40
  schema = schema_file.parse(content, where="test")
  files.drop("LAND", "CODE", "WEEKLY", "WEEKLY_MASK", "SAT_16")
  for row in range(3):
    files.change("DRONE_RGB", row, lambda x: x[::2, ::2], step=1.0)
  dataset = files.convert(tmp_path / "out", schema, progress=True)
  error = capsys.readouterr().err
  assert "in pixels of another size than the schema's: 3 files" in error
  # Predictions would have the GSD of the first task.
  assert dataset.output_size == (20, 20) and dataset.tasks == {}
  # A run has the pixels of its data, not those of the schema.
  config = base.get_config(dataset.schema)
  config.data.modalities, config.data.tasks = ("DRONE_RGB",), ()
  assert dataset.modalities["DRONE_RGB"].gsd == 1.0
  resolve.set_pixels(config, dataset)
  sensor = run_schema.as_trained(config).schema.sensors["DRONE_RGB"]
  assert (sensor.gsd, sensor.pixels) == (1.0, 20)
  files.change("DRONE_RGB", 1, lambda x: x[:20, :20], step=0.9)
  with pytest.raises(InputErrors, match=r"pixels of 0\.5 m.* found 0\.9 m"):
    files.convert(tmp_path / "again", schema)


def test_without_tasks_predictions_have_the_finest_gsd(files, tmp_path):
  content = schema_file.to_json(OTHER)
  del content["tasks"]
  schema = schema_file.parse(content, where="test")
  files.drop("LAND", "CODE", "WEEKLY", "WEEKLY_MASK", "DRONE_RGB")
  dataset = files.convert(tmp_path / "out", schema)
  assert dataset.output_size == (40, 40)


def test_another_schema_needs_another_folder(files, tmp_path):
  files.convert(tmp_path / "out")
  files.convert(tmp_path / "out")
  schema = with_values(OTHER, "WOOD", "other", [0, 10, 12, 13])
  with pytest.raises(InputError, match="records of another schema, other"):
    files.convert(tmp_path / "out", schema)


def test_columns_are_those_of_the_schema(files, tmp_path):
  with pytest.raises(InputError, match="column 'DRONE_RGB': expected one of"):
    files.convert(tmp_path / "out", FLAIR_HUB)
  assert not (tmp_path / "out").exists()


def test_a_mask_without_its_file(files, tmp_path):
  files.rows[1]["WEEKLY_MASK"] = ""
  with pytest.raises(InputErrors, match="expected a file of WEEKLY_MASK"):
    files.convert(tmp_path / "out")


def test_the_command_reports_values_and_exits_with_2(files, tmp_path, capsys):
  files.change("LAND", 0, put(5, 77))
  file = tmp_path / "schema.json"
  file.write_text(json.dumps(schema_file.to_json(OTHER)))
  with pytest.raises(InputErrors):
    files.convert(tmp_path / "out")
  argv = ["convert", "--schema", str(file), "--workers", "0"]
  argv += ["--train", str(files.folder / "TRAIN.csv")]
  assert main([*argv, "--out", str(tmp_path / "out")]) == 2
  error = capsys.readouterr().err
  assert "LAND, band 1" in error and "found 77 in 5 pixels" in error
