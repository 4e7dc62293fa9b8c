import concurrent.futures
import json
import pickle
import shutil

import numpy as np
import pytest

from flairhub_jax.data import convert, records, shard_files
from flairhub_jax.errors import InputError
from tests.data import published_layout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """Forty patches: three shards per stream."""
  folder = tmp_path_factory.mktemp("records")
  layout = published_layout.write_layout(
    folder, num_patches=40, columns=("SPOT_RGBI", "SENTINEL1-ASC_TS")
  )
  return convert.convert(
    {"train": layout.csv}, folder / "out", num_workers=0, progress=False
  )


@pytest.fixture
def copy(made, tmp_path):
  shutil.copytree(made.folder, tmp_path / "copy")
  return tmp_path / "copy"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int32"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (5,), (0,), (0, 2, 2)])
def test_encode_and_decode(dtype, shape):
  array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
  actual = shard_files.decode(shard_files.encode({"a": array.T, "b": array}))
  np.testing.assert_array_equal(actual["a"], array.T)
  np.testing.assert_array_equal(actual["b"], array)
  assert actual["a"].dtype == dtype


def test_not_a_number_survives():
  array = np.array([np.nan, 1.5, -np.inf], np.float32)
  actual = shard_files.decode(shard_files.encode({"values": array}))["values"]
  assert actual.tobytes() == array.tobytes()


def expected(row):
  return published_layout.values_of("SPOT_RGBI", row)


def test_records_are_in_the_order_of_the_csv_over_all_shards(made):
  stream = made.open_stream("train", "SPOT_RGBI")
  assert len(stream) == 40
  assert len(made.splits["train"].streams["SPOT_RGBI"]) == 3
  for row in (39, 0, 12, 13, 14, 25, 26, 27):
    np.testing.assert_array_equal(stream[row]["values"], expected(row))
    place = made.open_stream("train", "PATCH")[np.int64(row)]["json"]
    assert json.loads(bytes(place))["patch_id"] == f"D001-2019_AF-S1-1_0-{row}"
  for row in (40, -1):
    with pytest.raises(IndexError):
      stream[row]


def test_a_stream_can_be_pickled_after_use(made):
  stream = made.open_stream("train", "SPOT_RGBI")
  stream[3]
  copy = pickle.loads(pickle.dumps(stream))
  np.testing.assert_array_equal(copy[3]["values"], expected(3))
  assert pickle.loads(pickle.dumps(made)) == made


def test_many_threads_and_few_open_files(made, monkeypatch):
  monkeypatch.setattr(shard_files, "_MAX_OPEN_SHARDS", 1)
  stream = made.open_stream("train", "SPOT_RGBI")
  order = np.random.default_rng(0).permutation(400) % 40
  with concurrent.futures.ThreadPoolExecutor(8) as executor:
    actual = executor.map(stream.__getitem__, order)
    for row, record in zip(order, actual, strict=True):
      np.testing.assert_array_equal(record["values"], expected(row))


def test_loading_gives_what_was_made(made):
  loaded = records.load_dataset(made.folder)
  assert loaded == made
  info = loaded.modalities["SENTINEL1-ASC_TS"]
  assert info.shape == (None, 2, 2, 2)
  assert (info.min_dates, info.max_dates) == (3, 3)
  # SPOT of 4 x 4 pixels of 1.6 m: the labels that it lacks have 0.2 m.
  assert loaded.output_size == (32, 32)
  with pytest.raises(InputError, match="'valid'"):
    loaded.open_stream("valid", "SPOT_RGBI")
  with pytest.raises(InputError, match="'DEM_ELEV'"):
    loaded.open_stream("train", "DEM_ELEV")


def test_no_data_set(tmp_path):
  with pytest.raises(InputError, match="no such folder"):
    records.load_dataset(tmp_path / "nowhere")
  with pytest.raises(InputError, match=r"no dataset\.json"):
    records.load_dataset(tmp_path)


def test_lost_and_shortened_shards_are_named(copy):
  shard = copy / "train" / "SPOT_RGBI-00001-of-00003.array_record"
  whole = shard.read_bytes()
  shard.write_bytes(whole[:-1])
  with pytest.raises(InputError, match=r"SPOT_RGBI-00001.*bytes"):
    records.load_dataset(copy)
  shard.unlink()
  with pytest.raises(InputError, match=r"SPOT_RGBI-00001.*no file"):
    records.load_dataset(copy)
  damaged = bytearray(whole)
  # Riegeli's own header and trailer stay; the records between are lost.
  damaged[200:2000] = bytes(1800)
  shard.write_bytes(damaged)
  stream = records.load_dataset(copy).open_stream("train", "SPOT_RGBI")
  stream[0]
  with pytest.raises(InputError, match="SPOT_RGBI-00001"):
    [stream[row] for row in range(13, 26)]


@pytest.mark.parametrize(
  ("change", "word"),
  [
    (lambda d: d.update(schema_version=3), "schema_version 1 or 2, found 3"),
    (lambda d: d.pop("schema_version"), "schema_version"),
    (lambda d: d.pop("output_size"), "output_size"),
    (lambda d: d["modalities"].update(RADAR={"shape": []}), "RADAR|missing"),
    (lambda d: d["splits"]["train"].update(num_patches=41), "41 records"),
    (lambda d: d["splits"]["train"].pop("streams"), "streams"),
    (lambda d: d["splits"].update(train=3), "description"),
    (
      lambda d: d["splits"]["train"]["streams"]["PATCH"][0].update(
        file="../../../etc/passwd"
      ),
      "passwd",
    ),
  ],
)
def test_a_wrong_description_is_refused(copy, change, word):
  path = copy / "dataset.json"
  content = json.loads(path.read_text())
  change(content)
  path.write_text(json.dumps(content))
  with pytest.raises(InputError, match=word) as caught:
    records.load_dataset(copy)
  assert str(path) in str(caught.value)
