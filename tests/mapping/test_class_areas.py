"""Areas of classes, whole, by zone, and adjusted by a confusion matrix."""

import csv
import json

import numpy as np
import pytest
from rasterio import Affine

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import area, class_areas
from tests.mapping import regions
from tests.mapping.regions import COSIA

X, Y = regions.ORIGIN


@pytest.fixture(scope="module")
def classes():
  values = np.random.default_rng(0).integers(0, 5, (40, 30)).astype(np.uint8)
  values[:10, :10] = 255
  return values


@pytest.fixture(scope="module")
def raster(classes, tmp_path_factory):
  path = tmp_path_factory.mktemp("areas") / "m.tif"
  return regions.write_raster(path, classes[..., None], pixel=0.5, nodata=255)


@pytest.mark.parametrize("pixels", [1, 10**6])
def test_areas_of_a_map(classes, raster, monkeypatch, pixels):
  monkeypatch.setattr(class_areas, "_PIXELS", pixels)
  areas = class_areas.measure(raster, 19)
  counts = np.bincount(classes[classes < 19], minlength=19)
  np.testing.assert_array_equal(areas.pixels, counts)
  np.testing.assert_allclose(areas.metres, 0.25 * counts)
  assert areas.shares.sum() == pytest.approx(100)


def test_areas_by_zone(classes, raster, tmp_path, monkeypatch):
  monkeypatch.setattr(class_areas, "_PIXELS", 60)
  path = regions.write_zones(
    tmp_path / "z.geojson",
    (X + 2, Y - 12, X + 9, Y - 3),
    (X - 5, Y - 2, X + 1, Y + 9),
    (X + 900, Y, X + 901, Y + 1),
    NAME=["mill", None, "far"],
  )
  crs = regions.read(raster)[1]["crs"].to_wkt()
  table = class_areas.zone_rows(
    raster, regions.task(), area.read_features(path, crs)
  )
  part = np.bincount(classes[6:24, 4:18].ravel(), minlength=5)
  rows = {row["class"]: row for row in table if row["zone"] == 1}
  for value in range(5):
    assert rows[value]["pixels"] == part[value]
    assert rows[value]["area_ha"] == pytest.approx(part[value] * 0.25e-4)
    assert rows[value]["zone_name"] == "mill"
  # All of the second zone in the map is without data.
  assert {row["zone"] for row in table} == {1}
  class_areas.write_csv(tmp_path / "z.csv", table)
  with open(tmp_path / "z.csv", newline="") as file:
    (first, *_) = list(csv.DictReader(file))
  assert first["zone_name"] == "mill" and float(first["share_percent"]) > 0


def test_zones_of_another_system_and_turned_maps(classes, raster, tmp_path):
  inside = class_areas.measure(raster, 19)
  crs = regions.read(raster)[1]["crs"].to_wkt()
  path = regions.write_zones(
    tmp_path / "d.geojson", (2, 46, 4, 47), crs="OGC:1.3:CRS84"
  )
  (whole,) = area.read_features(path, crs)
  around = class_areas.measure(raster, 19, whole.shape)
  np.testing.assert_array_equal(around.pixels, inside.pixels)
  turned = Affine(0, 0.5, X, 0.5, 0, Y)
  other = tmp_path / "t.tif"
  regions.write_raster(other, classes[..., None], transform=turned, nodata=255)
  # Columns go north and rows go east.
  path = regions.write_zones(
    tmp_path / "z.geojson", (X + 10, Y + 5, X + 15, Y + 15)
  )
  (zone,) = area.read_features(path, crs)
  found = class_areas.measure(other, 19, zone.shape)
  expected = np.bincount(classes[20:30, 10:30].ravel(), minlength=19)
  np.testing.assert_array_equal(found.pixels, expected)


def test_maps_without_a_place_have_pixels_only(classes, tmp_path):
  path = regions.write_raster(
    tmp_path / "m.tif",
    classes[..., None],
    crs=None,
    transform=Affine.identity(),
  )
  areas = class_areas.measure(path, 19)
  (row, *_) = class_areas.rows(regions.task(), areas)
  assert set(row) == {"class", "name", "pixels", "share_percent"}


def test_adjusted_areas_are_those_of_the_literature():
  # Olofsson et al. 2014, section 5: deforestation, gain, forest, other.
  counts = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
  metres = 900.0 * np.array([200_000, 150_000, 3_200_000, 6_450_000])
  adjusted = class_areas.adjust(metres, np.array(counts).T)
  np.testing.assert_allclose(
    adjusted.metres / 1e4, [21_158, 11_686, 285_770, 581_386], atol=0.6
  )
  np.testing.assert_allclose(
    adjusted.interval / 1e4, [6158, 3756, 15_510, 16_282], atol=0.6
  )


def test_adjusted_areas_need_samples_of_mapped_classes():
  confusion = np.array([[5, 0, 0], [2, 0, 0], [0, 0, 9]])
  for matrix in (confusion, confusion + np.diag([0, 1, 0])):
    adjusted = class_areas.adjust(np.array([3.0, 1.0, 4.0]), matrix)
    assert np.isnan(adjusted.metres).all() and np.isnan(adjusted.interval).all()
  adjusted = class_areas.adjust(np.array([4.0, 0.0, 4.0]), confusion)
  np.testing.assert_allclose(adjusted.metres, [20 / 7, 8 / 7, 4])
  assert (adjusted.interval[:2] > 0).all() and adjusted.interval[2] == 0


def test_tables_for_reading(raster):
  task = regions.task()
  areas = class_areas.measure(raster, 19)
  adjusted = class_areas.adjust(areas.metres, np.diag(np.full(19, 10)))
  text = class_areas.format_rows(class_areas.rows(task, areas, adjusted))
  lines = text.splitlines()
  assert len(lines) == 2 + 5 and lines[2].startswith(task.class_names[0])
  assert "± 0.0000" in lines[2]


@pytest.mark.parametrize(
  "matrix",
  [
    None,
    [[1]],
    [[0.5] * 19] * 19,
    [[-1] * 19] * 19,
    [[1e300] * 19] * 19,
    ["x"],
    [[float("nan")] * 19] * 19,
    [[1] * 19] * 18 + [[1]],
  ],
)
def test_other_confusion_matrices_are_refused(matrix, tmp_path):
  path = tmp_path / "scores.json"
  path.write_text(json.dumps({"tasks": {COSIA: {"confusion": matrix}}}))
  with pytest.raises(InputError, match=f"{COSIA}.confusion: expected 19 x 19"):
    class_areas.read_confusion(path, {COSIA: regions.task()})


def test_confusion_matrices_of_evaluations_are_read(tmp_path):
  matrix = np.arange(361).reshape(19, 19)
  path = tmp_path / "scores.json"
  path.write_text(
    json.dumps({"tasks": {COSIA: {"confusion": matrix.tolist()}}})
  )
  read = class_areas.read_confusion(path, {COSIA: regions.task()})
  np.testing.assert_array_equal(read[COSIA], matrix)
