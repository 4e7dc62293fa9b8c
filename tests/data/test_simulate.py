import filecmp
import json
import pathlib
import re

import numpy as np
import pyogrio.raw
import pytest
import rasterio

from flairhub_jax import labels
from flairhub_jax.data import simulate, split_csv
from flairhub_jax.data.simulation import plan, scene, sensors
from flairhub_jax.data.simulation.land_use import BACKGROUND, cosia, lpis
from flairhub_jax.errors import InputError
from flairhub_jax.modalities import MODALITIES, SNOW_CLOUD_MASK

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


def csv_of(folder, split):
  return folder / "csv" / f"FLAIR-HUB_SIMULATED_{split.upper()}.csv"


def assert_same_tree(one: pathlib.Path, other: pathlib.Path):
  names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
  again = sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
  assert names == again
  _, mismatch, errors = filecmp.cmpfiles(one, other, names, shallow=False)
  assert not mismatch and not errors


def test_names_are_the_published_ones(folder):
  kinds = {*MODALITIES, SNOW_CLOUD_MASK, *labels.TASKS}
  seen = set()
  for path in folder.rglob("*.tif"):
    match = PATH.fullmatch(str(path.relative_to(folder)))
    assert match, path
    assert ("195X" in match[1]) == (match[2] == "AERIAL-RLT_PAN")
    seen.add(match[2])
  assert seen == kinds


def test_files_have_the_published_type_size_and_place(folder):
  sizes = {"AERIAL_RGBI": 32, "AERIAL-RLT_PAN": 16, "DEM_ELEV": 32}
  sizes |= {"SPOT_RGBI": 64, **dict.fromkeys(labels.TASKS, 32)}
  corners = {}
  for path in folder.rglob("*.tif"):
    _, name, region, patch = PATH.fullmatch(
      str(path.relative_to(folder))
    ).groups()
    with rasterio.open(path) as raster:
      assert raster.crs.to_epsg() == 2154
      assert raster.shape == (sizes.get(name, 10),) * 2
      assert raster.transform.a * raster.width == pytest.approx(102.4)
      assert raster.profile["compress"] == "deflate"
      corner = (raster.transform.c, raster.transform.f)
      assert corners.setdefault((region, patch), corner) == corner
      if name in MODALITIES:
        row = MODALITIES[name]
        assert raster.dtypes[0] == row.dtype
        assert raster.count % len(row.bands) == 0
        assert row.is_series or raster.count == len(row.bands)
      elif name in labels.TASKS:
        assert raster.count == labels.TASKS[name].num_bands
        band = raster.read(labels.TASKS[name].band + 1)
        assert band.max() < labels.TASKS[name].num_classes
  assert len(set(corners.values())) == 12


def test_splits_share_no_patch_and_test_no_domain(folder):
  ids = {s: split_csv.read_split(csv_of(folder, s)).patch_ids for s in SPLITS}
  everything = [name for names in ids.values() for name in names]
  assert len(everything) == len(set(everything)) == 12
  domains = {
    s: {name.split("_")[0] for name in names} for s, names in ids.items()
  }
  assert all(domains.values())
  assert not domains["test"] & (domains["train"] | domains["valid"])


def test_dates_fit_the_bands_and_some_share_a_day(folder):
  for short, name in (
    ("SENTINEL2", "SENTINEL2_TS"),
    ("SENTINEL1-ASC", "SENTINEL1-ASC_TS"),
  ):
    path = folder / "GLOBAL_ALL_MTD" / f"GLOBAL_{short}_MTD_DATES.gpkg"
    _, _, geometry, (ids, texts) = pyogrio.raw.read(path)
    assert len(ids) == 12 and all(geometry)
    for patch_id, text in zip(ids, texts, strict=True):
      dates = list(json.loads(text).values())
      domain, region, patch = patch_id.split("_")
      file = f"{domain}_{name}/{region}/{domain}_{name}_{region}_{patch}.tif"
      with rasterio.open(folder / file) as raster:
        assert raster.count == len(dates) * len(MODALITIES[name].bands)
      if name == "SENTINEL2_TS":
        assert len(set(dates)) < len(dates)


def test_the_seed_decides_every_byte_whatever_the_workers(folder, tmp_path):
  assert_same_tree(folder, simulated_into(tmp_path / "b", num_workers=2))
  other = simulated_into(tmp_path / "c", seed=1, modalities=["AERIAL_RGBI"])
  image = next(other.glob("D0*_AERIAL_RGBI/*/*.tif")).relative_to(other)
  assert not filecmp.cmp(folder / image, other / image, shallow=False)


def test_leaving_a_sensor_out_changes_no_other(folder, tmp_path):
  few = simulated_into(tmp_path / "few", modalities=["SENTINEL1-DESC_TS"])
  for path in few.rglob("*.tif"):
    assert filecmp.cmp(path, folder / path.relative_to(few), shallow=False)


def test_an_interrupted_simulation_continues(folder, tmp_path):
  out = simulated_into(tmp_path / "again")
  removed = sorted(out.rglob("*.tif"))[::3]
  for path in (*removed, csv_of(out, "train")):
    path.unlink()
  assert_same_tree(folder, simulated_into(out))


@pytest.mark.parametrize(
  "changes",
  [
    dict(num_patches=3),
    dict(pixels=100),
    dict(modalities=["LIDAR"]),
    dict(seed=-1),
  ],
)
def test_bad_values_are_refused(tmp_path, changes):
  with pytest.raises(InputError, match="expected"):
    simulated_into(tmp_path / "x", **changes)
  assert not (tmp_path / "x").exists()


def test_a_folder_of_something_else_is_refused(folder, tmp_path):
  with pytest.raises(InputError, match=r"\"seed\": 0"):
    simulated_into(folder, seed=5)
  (tmp_path / "notes.txt").write_text("")
  with pytest.raises(InputError, match="other files"):
    simulated_into(tmp_path)


# ---- what each sensor tells, and what it hides ------------------------------


@pytest.fixture(scope="module")
def landscapes():
  return [
    scene.build_scene(
      np.random.default_rng(number), (384, 384), 0.8, theme, 300.0
    )
    for number, theme in enumerate("UAFNAF")
  ]


def balanced_accuracy(one, other):
  """Of a linear discriminant that has seen half of the pixels, equal shares."""
  rng = np.random.default_rng(0)
  count = min(len(one), len(other), 4000)
  assert count >= 100
  one, other = (
    rng.permutation(x.reshape(len(x), -1))[:count].astype(np.float64)
    for x in (one, other)
  )
  half = count // 2
  mean_one, mean_other = one[:half].mean(0), other[:half].mean(0)
  pooled = np.cov(one[:half].T) + np.cov(other[:half].T)
  pooled = np.atleast_2d(pooled) + 1e-6 * np.eye(one.shape[1])
  direction = np.linalg.solve(pooled, mean_one - mean_other)
  threshold = direction @ (mean_one + mean_other) / 2
  return np.mean(
    [
      (one[half:] @ direction > threshold).mean(),
      (other[half:] @ direction <= threshold).mean(),
    ]
  )


def test_every_scored_class_occurs(landscapes):
  high = scene.build_scene(
    np.random.default_rng(0), (128, 128), 0.8, "N", 1700.0
  )
  seen = set().union(*(np.unique(s.cover) for s in (*landscapes, high)))
  assert set(range(15)) <= seen


def test_height_tells_grey_roofs_from_asphalt_and_colour_does_not(landscapes):
  rng = np.random.default_rng(0)
  air = sensors.draw_atmosphere(rng)
  parts = {"colour": ([], []), "height": ([], [])}
  for landscape in landscapes:
    image = sensors.aerial(rng, landscape, air)
    surface, terrain = np.moveaxis(sensors.elevation(rng, landscape), -1, 0)
    for number, where in enumerate(
      (
        (landscape.cover == cosia("building")) & landscape.is_grey,
        landscape.cover == cosia("impervious surface"),
      )
    ):
      parts["colour"][number].append(image[where])
      parts["height"][number].append((surface - terrain)[where][:, None])
  accuracy = {
    name: balanced_accuracy(*(np.concatenate(x) for x in pair))
    for name, pair in parts.items()
  }
  assert accuracy["colour"] < 0.75 < 0.95 < accuracy["height"], accuracy


def series_of(pair, kind, samples=400):
  """Pixels wholly of one cover and crop, over a year, dates as features."""
  rng = np.random.default_rng(1)
  days = np.arange(10, 360, 14)
  shares = np.ones((1, samples, 1), np.float32)
  if kind == "radar":
    series = sensors.sentinel1(rng, [pair], shares, days, 0.0)
    series = 10 * np.log10(np.nan_to_num(series, nan=0.05))
  else:
    series, _ = sensors.sentinel2(rng, [pair], shares, days, 100.0)
  return series[:, 0].swapaxes(0, 1)  # [samples, t, c]


@pytest.mark.parametrize(
  ("one", "other", "kind", "days"),
  [
    (("deciduous", None), ("coniferous", None), "optical", "winter"),
    (("agricultural land", "wheat"), ("agricultural land", "maize"),
     "optical", "year"),
    (("agricultural land", "wheat"), ("agricultural land", "barley"),
     "radar", "year"),
    (("agricultural land", "maize"), ("agricultural land", "sunflower"),
     "radar", "year"),
    (("plowed land", "maize"), ("bare soil", None), "radar", "spring"),
  ],
)  # fmt: skip
def test_the_sensor_that_tells_two_classes_apart(one, other, kind, days):
  season = dict(winter=[0, 1, 2], spring=[6, 7, 8], year=slice(None))[days]
  pairs = [
    (cosia(cover), BACKGROUND if crop is None else lpis(crop))
    for cover, crop in (one, other)
  ]
  means = [
    series_of(pair, kind)[:, season].mean(1)
    if days != "year"
    else series_of(pair, kind)[:, 8:16].mean(1)
    for pair in pairs
  ]
  assert balanced_accuracy(*means) > 0.85


@pytest.mark.parametrize(
  ("one", "other"), [("wheat", "barley"), ("maize", "sunflower")]
)
def test_pairs_of_crops_share_their_spectrum(one, other):
  field = cosia("agricultural land")
  np.testing.assert_array_equal(
    *(series_of((field, lpis(crop)), "optical") for crop in (one, other))
  )


def test_regions_are_named_as_published():
  regions = plan.plan_regions(250)
  assert sum(len(region.patches) for region in regions) == 250
  themes = {r.name[0] for r in regions if r.split == "test"}
  assert themes == set("UAFN")
