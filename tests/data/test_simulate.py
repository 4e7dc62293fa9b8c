import csv
import filecmp
import json
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pyogrio.raw
import pytest
import rasterio

from flairhub_jax import __main__, class_merge
from flairhub_jax.data import simulate, split_csv
from flairhub_jax.data.simulation.land_use import BACKGROUND, cosia
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB

SENSORS, TASKS = FLAIR_HUB.sensors, FLAIR_HUB.tasks
SPLITS = ("train", "valid", "test")
PATH = re.compile(
  r"(D\d{3}-(?:20\d\d|195X))_([A-Z0-9_-]+)/([A-Z]{2}-S1-\d+)/"
  r"\1_\2_\3_(\d+-\d+)\.tif"
)


def simulated_into(out, **changes):
  settings = dict(num_patches=12, pixels=32, num_workers=0, progress=False)
  simulate.simulate(out, **(settings | changes))
  return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return simulated_into(tmp_path_factory.mktemp("simulated") / "all")


def assert_same_tree(one: pathlib.Path, other: pathlib.Path):
  names, again = (
    # A kill leaves files written aside, whose names begin with a dot.
    sorted(p.relative_to(r) for p in r.rglob("[!.]*") if p.is_file())
    for r in (one, other)
  )
  assert names == again
  _, mismatch, errors = filecmp.cmpfiles(one, other, names, shallow=False)
  assert not mismatch and not errors


def test_names_are_the_published_ones(folder):
  kinds = set(FLAIR_HUB.columns)
  seen = set()
  for path in folder.rglob("*.tif"):
    match = PATH.fullmatch(str(path.relative_to(folder)))
    assert match, path
    assert ("195X" in match[1]) == (match[2] == "AERIAL-RLT_PAN")
    seen.add(match[2])
  assert seen == kinds


def test_files_have_the_published_type_size_and_place(folder):
  sizes = {"AERIAL_RGBI": 32, "AERIAL-RLT_PAN": 16, "DEM_ELEV": 32}
  sizes |= {"SPOT_RGBI": 64, **dict.fromkeys(FLAIR_HUB.label_columns, 32)}
  corners = {}
  for path in folder.rglob("*.tif"):
    match = PATH.fullmatch(str(path.relative_to(folder)))
    _, name, region, patch = match.groups()
    with rasterio.open(path) as raster:
      assert raster.crs.to_epsg() == 2154
      assert raster.shape == (sizes.get(name, 10),) * 2
      assert raster.transform.a * raster.width == pytest.approx(102.4)
      assert raster.profile["compress"] == "deflate"
      corner = (raster.transform.c, raster.transform.f)
      assert corners.setdefault((region, patch), corner) == corner
      if name in SENSORS:
        row = SENSORS[name]
        assert raster.dtypes[0] == row.dtype
        assert raster.count % len(row.bands) == 0
        assert row.is_series or raster.count == len(row.bands)
      elif name in FLAIR_HUB.label_columns:
        for task in FLAIR_HUB.label_columns[name]:
          assert raster.count == task.num_bands
          assert raster.read(task.band + 1).max() < task.num_classes
  assert len(set(corners.values())) == 12


@pytest.fixture(scope="module")
def split_of(folder):
  """Patch id -> split."""
  actual = {}
  for split in SPLITS:
    read = split_csv.read_split(
      simulate.csv_path(folder, split), FLAIR_HUB.columns
    )
    assert not actual.keys() & set(read.patch_ids)
    actual |= dict.fromkeys(read.patch_ids, split)
  return actual


def test_splits_share_no_patch_and_test_no_domain(split_of):
  assert len(split_of) == 12
  domains = {split: set() for split in SPLITS}
  for name, split in split_of.items():
    domains[split].add(name.split("_")[0])
  assert all(domains.values())
  assert not domains["test"] & (domains["train"] | domains["valid"])


def test_split_files_name_every_file_in_published_order(folder):
  named = set()
  for split in SPLITS:
    path = simulate.csv_path(folder, split)
    with open(path, newline="") as file:
      header, *rows = csv.reader(file)
    assert header == ["patch_id", *sorted(header[1:])]
    assert set(header[1:]) == set(FLAIR_HUB.columns)
    for _, *cells in rows:
      assert all(cell.startswith("../") for cell in cells)
      named |= {(path.parent / cell).resolve() for cell in cells}
  assert named == {p.resolve() for p in folder.rglob("*.tif")}


def test_tables_hold_footprints_dates_and_splits(folder, split_of):
  shorts = {
    "date": "AERIAL AERIAL-RLT SPOT",
    "acquisition_dates": "SENTINEL2 SENTINEL1-ASC SENTINEL1-DESC",
  }
  fields = {"GLOBAL_ALL_MTD_SPLIT": "split_1"}
  for field, names in shorts.items():
    fields |= {f"GLOBAL_{n}_MTD_DATES": field for n in names.split()}
  tables = {p.stem: p for p in (folder / "GLOBAL_ALL_MTD").iterdir()}
  assert set(tables) == set(fields)
  for name, path in tables.items():
    meta, _, _, (ids, values) = pyogrio.raw.read(path)
    assert list(meta["fields"]) == ["patch_id", fields[name]]
    assert meta["crs"] == "EPSG:2154" and meta["geometry_type"] == "Polygon"
    assert set(ids) == set(split_of)
    if fields[name] == "split_1":
      assert dict(zip(ids, values, strict=True)) == split_of
    if fields[name] == "date":
      assert all(re.fullmatch(r"(19|20)\d{6}", value) for value in values)
    for patch_id, box in zip(ids, pyogrio.read_bounds(path)[1].T, strict=True):
      place = patch_id.split("_", 1)[1]
      (file,) = folder.glob(f"*_DEM_ELEV/*/*{place}.tif")
      with rasterio.open(file) as dem:
        np.testing.assert_allclose(box, dem.bounds)


def test_farmed_land_always_has_a_crop(folder):
  farmed = [cosia(n) for n in ("agricultural land", "plowed land", "vineyard")]
  for path in folder.rglob("*_AERIAL_LABEL-COSIA_*.tif"):
    twin = str(path).replace("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS")
    with rasterio.open(path) as cover, rasterio.open(twin) as crop:
      is_farmed = np.isin(cover.read(1), farmed)
      level_1, level_2, level_3 = crop.read()
    assert (level_1[is_farmed] != BACKGROUND).all()
    one, two, three = list(TASKS.values())[1:]
    parents = class_merge.parents(two, one), class_merge.parents(three, two)
    np.testing.assert_array_equal(parents[0][level_2], level_1)
    np.testing.assert_array_equal(parents[1][level_3], level_2)


@pytest.mark.parametrize(
  ("name", "least"),
  [("SENTINEL2_TS", 20), ("SENTINEL1-ASC_TS", 25), ("SENTINEL1-DESC_TS", 25)],
)
def test_dates_are_those_of_the_region_and_fit_the_bands(folder, name, least):
  short = name.removesuffix("_TS")
  path = folder / "GLOBAL_ALL_MTD" / f"GLOBAL_{short}_MTD_DATES.gpkg"
  _, _, _, (ids, texts) = pyogrio.raw.read(path)
  of_region = {}
  for patch_id, text in zip(ids, texts, strict=True):
    domain, region, patch = patch_id.split("_")
    assert of_region.setdefault((domain, region), text) == text
    numbers, dates = zip(*json.loads(text).items(), strict=True)
    assert numbers == tuple(str(n + 1) for n in range(len(dates)))
    assert list(dates) == sorted(dates) and least <= len(dates) <= 40
    file = f"{domain}_{name}/{region}/{domain}_{name}_{region}_{patch}.tif"
    with rasterio.open(folder / file) as raster:
      assert raster.count == len(dates) * len(SENSORS[name].bands)
    # Two products of one Sentinel-2 overpass share their day.
    assert (len(set(dates)) < len(dates)) == (name == "SENTINEL2_TS")
  assert len(set(of_region.values())) == len(of_region)


def test_the_seed_decides_every_byte_whatever_the_workers(folder, tmp_path):
  assert_same_tree(folder, simulated_into(tmp_path / "b", num_workers=2))
  other = simulated_into(tmp_path / "c", seed=1, modalities=["AERIAL_RGBI"])
  image = next(other.glob("D0*_AERIAL_RGBI/*/*.tif")).relative_to(other)
  assert not filecmp.cmp(folder / image, other / image, shallow=False)


def test_leaving_a_sensor_out_changes_no_other(folder, tmp_path):
  few = simulated_into(tmp_path / "few", modalities=["SENTINEL1-DESC_TS"])
  for path in few.rglob("*.tif"):
    assert filecmp.cmp(path, folder / path.relative_to(few), shallow=False)


def test_a_killed_simulation_continues(folder, tmp_path):
  out = tmp_path / "killed"
  program = (
    "from flairhub_jax.data import simulate; simulate.simulate("
    f"{str(out)!r}, num_patches=12, pixels=32, num_workers=0, progress=False)"
  )
  process = subprocess.Popen([sys.executable, "-c", program])
  deadline = time.monotonic() + 30
  while len(list(out.rglob("D*.tif"))) < 7 and time.monotonic() < deadline:
    time.sleep(0.005)
  process.kill()
  process.wait()
  assert not simulate.csv_path(out, "test").exists()  # it was under way
  assert_same_tree(folder, simulated_into(out))
  removed = sorted(out.rglob("D*.tif"))[::3]
  for path in (*removed, simulate.csv_path(out, "train")):
    path.unlink()
  assert_same_tree(folder, simulated_into(out))


def test_a_finished_one_is_left_as_it_is(tmp_path):
  out = simulated_into(tmp_path / "x", modalities=["AERIAL_RGBI"])
  times = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
  simulated_into(out, modalities=["AERIAL_RGBI"])
  assert times == {p: p.stat().st_mtime_ns for p in out.rglob("*")}


def test_the_command_says_what_it_wrote(tmp_path, capsys):
  argv = ["simulate", "--out", str(tmp_path / "x"), "--patches", "10"]
  argv += ["--pixels", "32", "--workers", "0"]
  argv += ["--modalities", "AERIAL_RGBI,DEM_ELEV"]
  assert __main__.main(argv) == 0
  printed = capsys.readouterr().out
  counts = re.findall(r"^(\w+) +\S+\.csv +(\d+)$", printed, re.M)
  assert [name for name, _ in counts] == list(SPLITS)
  assert sum(int(count) for _, count in counts) == 10
  for row in TASKS["AERIAL_LABEL-COSIA"].classes:
    assert row.name in printed
  kinds = {p.name.split("_", 1)[1] for p in (tmp_path / "x").glob("D*")}
  assert kinds == {"AERIAL_RGBI", "DEM_ELEV", *FLAIR_HUB.label_columns}


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("num_patches", 3), ("num_workers", -1), ("pixels", 100),
    ("modalities", ["LIDAR"]), ("seed", -1),
  ],
)  # fmt: skip
def test_bad_values_are_refused(tmp_path, name, value):
  with pytest.raises(InputError, match="expected"):
    simulated_into(tmp_path / "x", **{name: value})
  assert not (tmp_path / "x").exists()


def test_a_folder_of_something_else_is_refused(folder, tmp_path):
  with pytest.raises(InputError, match=r"\"seed\": 0"):
    simulated_into(folder, seed=5)
  (tmp_path / "notes.txt").write_text("")
  with pytest.raises(InputError, match="other files"):
    simulated_into(tmp_path)
