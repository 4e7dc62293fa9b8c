import contextlib
import json
import sqlite3

import numpy as np
import pyogrio
import pyogrio.raw
import pytest

from flairhub_jax.data import dates
from flairhub_jax.errors import InputError, InputErrors
from tests.data import published_layout


@pytest.fixture
def write(tmp_path):
  def write(dates_by_patch):
    path = tmp_path / "GLOBAL_SENTINEL2_MTD_DATES.gpkg"
    path.unlink(missing_ok=True)
    published_layout.write_dates(path, dates_by_patch)
    return path

  return write


def test_keys_are_ordered_as_numbers_and_days_may_repeat(write, tmp_path):
  texts = {str(i): f"201901{i + 1:02}" for i in range(12)}
  shuffled = dict(sorted(texts.items()))
  assert list(shuffled) != list(texts)
  twice = {"1": "20190105", "2": "20190105", "3": "20181231"}
  path = write({"a": json.dumps(shuffled), "b": json.dumps(twice)})
  b, a, again = dates.read_dates(path, ["b", "a", "b"], cache=tmp_path)
  start = np.datetime64("2019-01-01", "D").astype(int)
  assert a.dtype == np.int32
  assert a.tolist() == list(range(start, start + 12))
  assert b.tolist() == again.tolist() == [start + 4, start + 4, start - 1]


def test_a_second_reading_takes_the_cache_and_gives_the_same(
  write, tmp_path, monkeypatch
):
  path = write({"a": '{"1": "20200229"}', "é": "{}"})
  cache = tmp_path / "deep" / "cache"
  first = dates.read_dates(path, ["a", "é"], cache=cache)
  [cached] = cache.iterdir()
  monkeypatch.setattr(dates, "_parse_table", None)
  second = dates.read_dates(path, ["a", "é"], cache=cache)
  assert [s.tolist() for s in first] == [s.tolist() for s in second]
  assert first[0].tolist() == [18321] and first[1].tolist() == []
  monkeypatch.undo()
  cached.write_bytes(cached.read_bytes()[:100])
  damaged = dates.read_dates(path, ["a"], cache=cache)
  assert damaged[0].tolist() == [18321]


def test_a_changed_file_is_read_anew(write, tmp_path):
  path = write({"a": '{"1": "20200101"}'})
  before = dates.read_dates(path, ["a"], cache=tmp_path)
  write({"a": '{"1": "20200103"}'})
  after = dates.read_dates(path, ["a"], cache=tmp_path)
  assert after[0] - before[0] == 2


def written(tmp_path, *lines):
  path = tmp_path / "dates.csv"
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")
  return path


@pytest.mark.parametrize(
  "lines",
  [
    ["patch_id,acquisition_dates", "a,20200101 20200103", "b,20200102"],
    ["patch_id,acquisition_dates", "a,20200101;20200103;", "b, 20200102"],
    ["acquisition_dates;x;patch_id", "20200101  20200103;;a", "20200102;1;b"],
    ['"patch_id";"acquisition_dates"', '"a";"20200101;20200103"', "b;20200102"],
    [
      "patch_id,acquisition_dates",
      'a,"{""1"": ""20200101"", ""10"": ""20200103""}"',
      'b,"{""0"": ""20200102""}"',
    ],
  ],
)
def test_dates_of_a_csv(tmp_path, lines):
  path = written(tmp_path, *lines)
  for _ in range(2):  # the second time from the cache
    b, a = dates.read_dates(path, ["b", "a"], cache=tmp_path)
    assert (a.tolist(), b.tolist()) == ([18262, 18264], [18263])
    assert a.dtype == np.int32


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    (["patch,acquisition_dates", "a,20200101"], "header: expected the columns"),
    (["patch_id,acquisition_dates", "a"], "row 2: expected 2 cells, found 1"),
    (
      ["patch_id,acquisition_dates", "a,20200101", "a,20200102"],
      "row 3, patch_id: expected 'a' once",
    ),
    (
      ["patch_id,acquisition_dates", "a,20200101 2020-01-02"],
      "patch a, acquisition_dates: expected dates as YYYYMMDD, found '2020-",
    ),
    (["patch_id,acquisition_dates", "b,20200101"], "dates of patch a"),
    (["patch_id,acquisition_dates", 'a,"{"'], "expected JSON like"),
  ],
)
def test_a_bad_csv_of_dates_is_named(tmp_path, lines, message):
  path = written(tmp_path, *lines)
  with pytest.raises(InputError, match=str(path)) as caught:
    dates.read_dates(path, ["a"], cache=tmp_path)
  assert message in str(caught.value)
  path.write_bytes(b"patch_id,acquisition_dates\n\xff,20200101\n")
  with pytest.raises(InputError, match="a readable CSV"):
    dates.read_dates(path, ["a"], cache=tmp_path)


def test_missing_patches_are_listed(write, tmp_path):
  path = write({"a": "{}"})
  with pytest.raises(InputErrors) as caught:
    dates.read_dates(path, ["b", "a", "c"], cache=tmp_path)
  lines = str(caught.value).splitlines()
  assert len(lines) == 2
  assert all(path.name in line for line in lines)
  assert "patch b" in lines[0] and "patch c" in lines[1]


@pytest.mark.parametrize(
  ("text", "word"),
  [
    ("{'1': '20200101'}", "JSON"),
    ('["20200101"]', "JSON"),
    ('{"first": "20200101"}', "JSON"),
    (None, "JSON"),
    ("[" * 100_000, "JSON"),
    ('{"1": "20200230"}', "YYYYMMDD"),
    ('{"1": "2020111"}', "YYYYMMDD"),
    ('{"1": 20200101}', "YYYYMMDD"),
  ],
)
def test_bad_dates_name_file_and_patch(write, tmp_path, text, word):
  path = write({"good": "{}", "bad": text})
  with pytest.raises(InputError) as caught:
    dates.read_dates(path, ["good", "bad"], cache=tmp_path)
  # A row that is not asked for may hold anything.
  dates.read_dates(path, ["good"], cache=tmp_path)
  for part in (path.name, "patch bad", word):
    assert part in str(caught.value)


def test_no_geopackage_and_no_columns_are_named(tmp_path):
  path = tmp_path / "GLOBAL_SENTINEL2_MTD_DATES.gpkg"
  with pytest.raises(InputError, match="no file of that name"):
    dates.read_dates(path, ["a"], cache=tmp_path)
  path.write_text("not a database")
  with pytest.raises(InputError, match="readable GeoPackage"):
    dates.read_dates(path, ["a"], cache=tmp_path)


def test_layers_and_columns_that_were_found_are_listed(write, tmp_path):
  path = write({"a": "{}"})
  with contextlib.closing(sqlite3.connect(path)) as database, database:
    database.execute("ALTER TABLE dates RENAME COLUMN patch_id TO name")
  with pytest.raises(InputError) as caught:
    dates.read_dates(path, ["a"], cache=tmp_path)
  assert "columns patch_id and acquisition_dates, found " in str(caught.value)
  assert "layer 'dates' with name, acquisition_dates" in str(caught.value)


def test_the_layer_that_has_the_columns_is_read(write, tmp_path):
  path = write({"a": '{"1": "20200101"}'})
  path.rename(tmp_path / "a.gpkg")
  pyogrio.raw.write(
    path,
    geometry=None,
    field_data=[np.array([1.0])],
    fields=["area"],
    driver="GPKG",
    layer="first",
  )
  published_layout.write_dates(path, {"a": '{"1": "20200101"}'}, append=True)
  assert pyogrio.list_layers(path)[:, 0].tolist() == ["first", "dates"]
  [days] = dates.read_dates(path, ["a"], cache=tmp_path)
  assert days.tolist() == [18262]


def test_text_that_is_not_utf_8_is_reported(write, tmp_path):
  path = write({"a": "{}", "b": "{}"})
  with contextlib.closing(sqlite3.connect(path)) as database, database:
    database.execute(
      "UPDATE dates SET patch_id = CAST(x'e9' AS TEXT) WHERE patch_id = 'b'"
    )
  with pytest.raises(InputError, match=r"MTD_DATES\.gpkg: expected .*UTF-8"):
    dates.read_dates(path, ["a"], cache=tmp_path)


def test_real_dates(shared, tmp_path):
  folder = shared / "real" / "treesatai_ts" / "GLOBAL_ALL_MTD"
  path = folder / "GLOBAL_SENTINEL1-DESC_MTD_DATES.gpkg"
  [days] = dates.read_dates(path, ["D901-2019_TS-S1-1_1-1"], cache=tmp_path)
  # Several products on one day: 235 images on 121 dates.
  assert len(days) == 235
  assert len(np.unique(days)) == 121
