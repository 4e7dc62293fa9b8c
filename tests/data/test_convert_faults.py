import json
import os

import numpy as np
import pytest
import rasterio

from flairhub_jax.data import convert, convert_sources, split_csv
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.flair_hub import FLAIR_HUB
from tests.data import published_layout
from tests.data.published_layout import MASK, run


def remove(layout, column):
  layout.file(column, 1).unlink()


def truncate(layout, column):
  path = layout.file(column, 1)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(layout, column, function, **place):
  values = function(published_layout.values_of(column, 1))
  published_layout.write(layout.file(column, 1), values, column, 1, **place)


def shift(layout, column, metres):
  change(layout, column, lambda x: x, shift=metres)


def too_high(values):
  values[3, 3, 0] = 19
  return values


FAULTS = {
  "missing": (remove, ["AERIAL_RGBI"], "expected a GeoTIFF file, found none"),
  "truncated": (truncate, ["AERIAL_RGBI"], "a readable GeoTIFF"),
  "truncated mask": (truncate, [MASK], "a readable GeoTIFF"),
  "bands": (
    change,
    ["AERIAL_RGBI", lambda x: x[..., :3]],
    "4 bands ('R', 'G', 'B', 'NIR'), found 3",
  ),
  "bands of a series": (
    change,
    ["SENTINEL2_TS", lambda x: x[..., :29]],
    "a multiple of 10 bands",
  ),
  "bands of the mask": (
    change,
    [MASK, lambda x: x[..., :5]],
    "a multiple of 2 bands ('snow', 'cloud'), found 5 bands",
  ),
  "dates of the mask": (
    change,
    [MASK, lambda x: x[..., :4]],
    "3 dates, as SENTINEL2_TS has, found 2 (4 bands)",
  ),
  "dates": (
    change,
    ["SENTINEL1-DESC_TS", lambda x: x[..., :4]],
    "3 dates, as the metadata has for patch D001-2019_AF-S1-1_0-1, "
    "found 2 (4 bands)",
  ),
  "type": (
    change,
    ["AERIAL_RGBI", lambda x: x.astype("uint16")],
    "type uint8, found uint16",
  ),
  "type of a series": (
    change,
    ["SENTINEL1-ASC_TS", lambda x: x.astype("float64")],
    "type float32, found float64",
  ),
  "type of the mask": (
    change,
    [MASK, lambda x: x.astype("float32")],
    "type uint8 or uint16, found float32",
  ),
  "type of labels": (
    change,
    ["AERIAL_LABEL-COSIA", lambda x: x.astype("float32")],
    "labels of whole numbers, found float32",
  ),
  "size": (
    change,
    ["DEM_ELEV", lambda x: x[:15]],
    "height x width x bands 16 x 16 x 2, as the first patch has, "
    "found 15 x 16 x 2",
  ),
  "size of a series": (
    change,
    ["SENTINEL2_TS", lambda x: x[:1]],
    "2 x 2 x 10, as the first patch has, found 1 x 2 x 10",
  ),
  "size of the mask": (
    change,
    [MASK, lambda x: x[:1]],
    "2 x 2 x 2, as the first patch has, found 1 x 2 x 2",
  ),
  "size of labels": (
    change,
    ["ALL_LABEL-LPIS", lambda x: x[..., :2]],
    "16 x 16 x 3, as the first patch has, found 16 x 16 x 2",
  ),
  "mask": (
    change,
    [MASK, lambda x: x.astype("uint16") + 300],
    "values of 0-100, found",
  ),
  "place": (
    shift,
    ["SPOT_RGBI", 26],
    "within 1 pixel: 102.4 x 102.4 from the corner (700102.40, 6300000.00), "
    "pixels of 6.4, north up, the ground of",
  ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_reported(layout, tmp_path, name):
  break_it, arguments, expected = FAULTS[name]
  break_it(layout, *arguments)
  with pytest.raises(InputErrors) as caught:
    run(layout, tmp_path / "out")
  [line] = str(caught.value).splitlines()
  assert line.startswith(str(layout.file(arguments[0], 1)))
  assert expected in line
  assert not (tmp_path / "out" / "dataset.json").exists()


def test_another_crs_is_reported(layout, tmp_path):
  change(layout, "SPOT_RGBI", lambda x: x, crs="EPSG:32631")
  with pytest.raises(
    InputErrors, match=r"the CRS EPSG:2154 .* of .* EPSG:32631"
  ):
    run(layout, tmp_path / "out")


def test_patches_may_have_different_crs_or_none(layout, tmp_path):
  for column in FLAIR_HUB.columns:
    change(layout, column, lambda x: x, crs="EPSG:32631")
  change(layout, "SPOT_RGBI", lambda x: x, crs=None, shift=1e6)
  shift(layout, "DEM_ELEV", 0)
  change(layout, "DEM_ELEV", lambda x: x, crs="EPSG:32631", shift=0.1)
  run(layout, tmp_path / "out")


def test_all_faults_are_reported_at_once_and_then_mended(layout, tmp_path):
  out = tmp_path / "out"
  before = {row: layout.file("DEM_ELEV", row).read_bytes() for row in range(3)}
  for row in range(3):
    layout.file("DEM_ELEV", row).write_bytes(b"")
  before_labels = layout.file("AERIAL_LABEL-COSIA", 1).read_bytes()
  change(layout, "AERIAL_LABEL-COSIA", too_high)
  with pytest.raises(InputErrors) as caught:
    run(layout, out, num_workers=2)
  lines = str(caught.value).splitlines()
  assert len(lines) == 4
  assert [line.count("DEM_ELEV") for line in lines] == [4, 4, 4, 0]
  for row in range(3):
    layout.file("DEM_ELEV", row).write_bytes(before[row])
  layout.file("AERIAL_LABEL-COSIA", 1).write_bytes(before_labels)
  run(layout, out)
  run(layout, tmp_path / "other")
  actual = published_layout.contents(out)
  assert actual == published_layout.contents(tmp_path / "other")


def test_many_faults_are_cut_short(layout, tmp_path):
  layout.rows = [
    {"patch_id": f"p{i}", "AERIAL_RGBI": f"{i}.tif"} for i in range(90)
  ]
  layout.write_csv()
  with pytest.raises(InputErrors) as caught:
    run(layout, tmp_path / "out")
  lines = str(caught.value).splitlines()
  assert len(lines) == 11 and lines[-1] == "and 80 more"


def test_gaps_in_the_csv_are_reported(layout, tmp_path):
  layout.rows[0]["AERIAL_LABEL-COSIA"] = ""
  layout.rows[1][MASK] = ""
  for name in FLAIR_HUB.sensors:
    layout.rows[2][name] = ""
  layout.write_csv()
  with pytest.raises(InputErrors) as caught:
    run(layout, tmp_path / "out")
  lines = str(caught.value).splitlines()
  assert "0-0: expected a file of AERIAL_LABEL-COSIA" in lines[0]
  assert f"0-1: expected a file of {MASK}" in lines[1]
  assert "0-2: expected a file of a sensor" in lines[2]
  assert len(lines) == 3


def test_a_mask_in_one_split_only(layout, tmp_path):
  rows = [dict(row) for row in layout.rows]
  for row in rows:
    row.pop(MASK)
  other = published_layout.Layout(
    layout.folder, layout.csv.with_name("VALID.csv"), rows
  )
  other.write_csv()
  with pytest.raises(InputError, match=r"VALID\.csv.*SENTINEL2_MSK-SC"):
    convert.convert(
      {"train": layout.csv, "valid": other.csv},
      tmp_path / "out",
      num_workers=0,
      progress=False,
    )
  run(other, tmp_path / "other", split="valid")


def test_labels_of_two_sizes(layout, tmp_path):
  for row in range(3):
    values = published_layout.values_of("ALL_LABEL-LPIS", row)[:8, :8]
    path = layout.file("ALL_LABEL-LPIS", row)
    published_layout.write(path, values, "ALL_LABEL-LPIS", row)
  with pytest.raises(InputError, match=r"one height.*ALL_LABEL-LPIS 8 x 8"):
    run(layout, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_metadata_is_looked_for_and_may_be_named(layout, tmp_path):
  beside = layout.folder / "GLOBAL_ALL_MTD"
  elsewhere = beside.rename(tmp_path / "dates")
  with pytest.raises(InputError, match=r"TRAIN\.csv.*GLOBAL_ALL_MTD"):
    run(layout, tmp_path / "out")
  run(layout, tmp_path / "out", metadata=elsewhere)
  (elsewhere / "GLOBAL_SENTINEL2_MTD_DATES.gpkg").unlink()
  with pytest.raises(InputError, match="SENTINEL2_MTD_DATES"):
    run(layout, tmp_path / "out2", metadata=elsewhere)
  published_layout.write_dates(
    elsewhere / "GLOBAL_SENTINEL2_MTD_DATES.gpkg", {"other": "{}"}
  )
  with pytest.raises(InputErrors) as caught:
    run(layout, tmp_path / "out3", metadata=elsewhere)
  assert len(caught.value.problems) == 3


def test_images_need_no_metadata(tmp_path):
  layout = published_layout.write_layout(
    tmp_path / "raw", columns=("AERIAL_RGBI", "SPOT_RGBI")
  )
  dataset = run(layout, tmp_path / "out", split="test")
  assert dataset.output_size == (16, 16)
  assert dataset.tasks == {}


def test_a_folder_of_csvs_may_be_a_link(layout, tmp_path):
  moved = layout.csv.parent.rename(tmp_path / "lists")
  layout.csv.parent.symlink_to(moved)
  for row in layout.rows:
    for column in row.keys() - {"patch_id"}:
      row[column] = str(layout.folder / row[column].removeprefix("../"))
  layout.write_csv()
  run(layout, tmp_path / "out")


def test_a_changed_file_of_equal_size_is_reported(layout, tmp_path, capsys):
  out = tmp_path / "out"
  run(layout, out)
  run(layout, out)
  path = layout.file("AERIAL_LABEL-COSIA", 1)
  before = path.stat()
  path.write_bytes(path.read_bytes())
  with pytest.raises(InputError, match=r"1 files changed since, first .*0-1"):
    run(layout, out)
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))
  with pytest.raises(InputError, match="of other times or sizes among patches"):
    run(layout, out)
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
  run(layout, out)


def bend(layout, column, function, **tags):
  """Rewrites a file of patch 1 in place with rasterio's own tags."""
  with rasterio.open(layout.file(column, 1)) as raster:
    values, profile = raster.read(), raster.profile
  values = function(values)
  with rasterio.open(
    layout.file(column, 1), "w", **{**profile, **tags}
  ) as raster:
    raster.write(values)


def holed(value, bands=slice(None)):
  def make(values):
    values[bands, :1] = value
    return values

  return make


def test_pixels_without_data_are_filled_and_labels_ignored(
  layout, tmp_path, capsys
):
  first_date = slice(0, 10)
  bend(layout, "SPOT_RGBI", holed(65535), nodata=65535)
  bend(layout, "SENTINEL2_TS", holed(0, first_date), nodata=0)
  bend(layout, "AERIAL_LABEL-COSIA", holed(99), nodata=99)
  dataset = run(layout, tmp_path / "out", progress=True)
  spot = dataset.open_stream("train", "SPOT_RGBI")[1]["values"]
  whole = published_layout.values_of("SPOT_RGBI", 1)
  np.testing.assert_array_equal(spot[1:], whole[1:])
  median = np.rint(np.median(whole[1:], (0, 1)))
  np.testing.assert_array_equal(spot[0], np.tile(median, (4, 1)))
  assert dataset.modalities["SPOT_RGBI"].statistics["R"]["max"] < 200
  # Half of the pixels of a date may be missing.
  series = dataset.open_stream("train", "SENTINEL2_TS")[1]
  assert len(series["dates"]) == len(series["quality"]) == 3
  assert (
    series["values"][0, 0] == series["values"][0, 1].mean(0).round()
  ).any()
  labels = dataset.open_stream("train", "AERIAL_LABEL-COSIA")[1]["labels"]
  assert (labels[0] == 255).all() and labels[1:].max() < 19
  counts = dataset.splits["train"].class_counts["AERIAL_LABEL-COSIA"]
  assert sum(counts) == 3 * 256 - 16 and len(counts) == 19
  patch = json.loads(bytes(dataset.open_stream("train", "PATCH")[1]["json"]))
  assert patch["missing"]["SPOT_RGBI"] == 0.25
  message = capsys.readouterr().err
  assert "SPOT_RGBI: declared as without data, filled" in message
  assert "25.00% of 1 files" in message
  assert "AERIAL_LABEL-COSIA: declared as without data, ignored" in message


def test_dates_mostly_without_data_are_left_out(layout, tmp_path):
  def make(values):
    values[10:20] = 65535
    return values

  bend(layout, "SENTINEL2_TS", make, nodata=65535)
  dataset = run(layout, tmp_path / "out")
  series = dataset.open_stream("train", "SENTINEL2_TS")[1]
  assert len(series["dates"]) == len(series["quality"]) == 2
  assert series["dates"][1] - series["dates"][0] == 10
  assert series["values"].max() < 200
  bend(layout, "SENTINEL2_TS", lambda x: x * 0 + 65535, nodata=65535)
  dataset = run(layout, tmp_path / "none")
  assert dataset.modalities["SENTINEL2_TS"].min_dates == 0


def test_values_that_look_like_no_data_are_reported(layout, tmp_path, capsys):
  bend(layout, "DEM_ELEV", holed(-9999))
  bend(layout, "AERIAL_RGBI", holed(0))
  run(layout, tmp_path / "out", progress=True)
  message = capsys.readouterr().err
  assert "DEM_ELEV: the value -9999, taken as measured" in message
  assert "AERIAL_RGBI: 0 in all bands" in message
  assert message.count("6.25% of 1 files") == 2


def test_the_inconsistent_file_is_named(layout, tmp_path):
  shift(layout, "AERIAL_LABEL-COSIA", 40)
  with pytest.raises(InputErrors) as caught:
    run(layout, tmp_path / "out")
  [line] = caught.value.problems
  assert line.startswith(str(layout.file("AERIAL_LABEL-COSIA", 1)))


def test_the_number_of_patches_in_two_splits_is_reported(layout, tmp_path):
  renamed = [{**row, "patch_id": f"p{i}"} for i, row in enumerate(layout.rows)]
  other = published_layout.Layout(
    layout.folder, layout.csv.with_name("VALID.csv"), renamed[:2]
  )
  other.write_csv()
  sources = [
    convert_sources.SplitSource(
      name, split_csv.read_split(path, FLAIR_HUB.columns), FLAIR_HUB
    )
    for name, path in (
      ("train", layout.csv),
      ("valid", other.csv),
      ("test", layout.csv),
    )
  ]
  lines = convert_sources.find_shared_patches(sources)
  assert [line.split(" (")[0] for line in lines] == [
    "2 of 2 patches of valid are in train too",
    "3 of 3 patches of test are in train too",
    "2 of 3 patches of test are in valid too",
  ]
