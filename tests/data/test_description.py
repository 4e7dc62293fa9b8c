"""The content of dataset.json is validated before it is used."""

import json

import pytest

from flairhub_jax.data import records
from flairhub_jax.errors import InputError, InputErrors


@pytest.mark.parametrize(
  ("path", "value", "message"),
  [
    (("modalities", "AERIAL_RGBI", "shape"), [0] * 1000, "shape: expected"),
    (("modalities", "AERIAL_RGBI", "shape"), [64, True, 4], "shape: expected"),
    (("modalities", "AERIAL_RGBI"), None, "a description, found None"),
    (("modalities", "LIDAR"), {"shape": [4, 4, 1]}, "found 'LIDAR'"),
    (
      ("modalities", "AERIAL_RGBI", "dtype"),
      "uint16",
      "an image of 4 bands of uint8, found",
    ),
    (
      ("modalities", "SENTINEL2_TS", "shape"),
      [10, 10, 10],
      "a series of 10 bands of uint16, found",
    ),
    (("tasks", "LIDAR"), {"shape": [4, 4, 1]}, "found 'LIDAR'"),
    (("tasks", "ALL_LABEL-LPIS", "dtype"), "int8", "uint8 or uint16"),
    (("tasks", "ALL_LABEL-LPIS", "no_data"), -1, "a stored value, found -1"),
    (("schema",), {"name": "x"}, "schema, sensors: expected this field"),
    (("schema",), None, "schema: expected"),
    (("schema", "sensors"), [], "schema, sensors: expected at least one"),
    (("tasks",), [], "tasks: expected names"),
    (("output_size",), [64], r"output_size: expected \[height, width\]"),
    (("output_size",), [64, -64], r"output_size: expected \[height, width\]"),
    (("splits", "train", "num_patches"), 1.5, "a number of patches"),
    (("splits", "train", "streams", "PATCH"), [], "a list of shards"),
    (("splits", "train", "num_dates"), {}, "shard: expected a shard"),
    (("splits", "train", "num_dates"), [1], "a description"),
    (("splits", "train", "absent"), {"AERIAL_RGBI": "no"}, "found 'no'"),
    (("splits", "train", "class_counts"), {"LIDAR": [1]}, "found 'LIDAR'"),
  ],
)
def test_invalid_descriptions_are_refused(
  converted, tmp_path, path, value, message
):
  content = json.loads((converted / records.DATASET_FILE).read_text())
  *parents, last = path
  node = content
  for name in parents:
    node = node[name]
  node[last] = value
  (tmp_path / records.DATASET_FILE).write_text(json.dumps(content))
  with pytest.raises(InputErrors, match=message) as caught:
    records.load_dataset(tmp_path)
  assert len(str(caught.value).splitlines()) <= 11


@pytest.mark.parametrize("text", ["[]", "1", "", "{}", "[" * 10**5])
def test_json_that_describes_nothing(tmp_path, text):
  (tmp_path / records.DATASET_FILE).write_text(text)
  with pytest.raises(InputError, match=r"dataset\.json"):
    records.load_dataset(tmp_path)
