"""Products of `flairhub zonal`, as a user asks for them."""

import csv
import json
import re

import numpy as np
import pyogrio.raw
import pytest
import rasterio
from matplotlib import patches
from rasterio import Affine
from scipy import ndimage

from flairhub_jax.figures import map_sheet
from flairhub_jax.mapping import network, polygons, products
from tests.mapping import regions
from tests.mapping.regions import COSIA, zonal

X, Y = regions.ORIGIN
NUM_PIXELS = 75 * 90


def rows(path):
  with open(path, newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
  """A map with a minimum mapping unit of 2 square metres."""
  folder = tmp_path_factory.mktemp("products")
  path = regions.write_raster(folder / "a.tif", regions.image(75, 90))
  zone = (X, Y - 4, X + 4, Y)
  regions.write_zones(folder / "zones.geojson", zone, name=["<mill>"])
  counts = np.full((19, 19), 3) + 60 * np.eye(19, dtype=int)
  scores = {"tasks": {COSIA: {"confusion": counts.tolist()}}}
  (folder / "scores.json").write_text(json.dumps(scores))
  words = ["--input", path, "--overlap", 0, "--min-area", 2.0]
  words += ["--layers", "confidence", "--scores", folder / "scores.json"]
  zonal(run, folder / "m.tif", *words)
  return folder, words


def test_small_areas_become_their_neighbours(folder, run, capsys):
  folder, words = folder
  classes = regions.read(folder / "m.tif")[0][..., 0]
  for value in np.unique(classes):
    labels, _ = ndimage.label(classes == value)
    assert np.bincount(labels.ravel())[1:].min() >= 50
  with rasterio.open(folder / "m.tif") as written:
    tag = json.loads(written.tags()["FLAIRHUB_MIN_AREA"])
  assert set(tag.values()) == {2.0}
  line = regions.refused(
    capsys, run, folder / "n.tif", *words, "--min-area", "moon=3"
  )
  assert "--min-area: expected any of building" in line


def test_areas_of_the_map(folder):
  folder, _ = folder
  classes = regions.read(folder / "m.tif")[0][..., 0]
  table = rows(folder / "m_areas.csv")
  counts = np.bincount(classes.ravel(), minlength=19)
  assert [int(row["pixels"]) for row in table] == counts.tolist()
  ground = NUM_PIXELS * 0.04
  total = {
    key: sum(float(row[key]) for row in table)
    for key in table[0]
    if key != "name"
  }
  assert total["area_m2"] == pytest.approx(ground)
  assert total["share_percent"] == pytest.approx(100)
  assert total["adjusted_ha"] == pytest.approx(ground / 1e4)
  assert total["interval95_ha"] > 0


def test_the_page_has_all_and_needs_no_network(folder):
  folder, _ = folder
  page = (folder / "m.html").read_text(encoding="utf-8")
  assert page.count('src="data:image/png;base64,') == 1
  assert not re.search(r"(src|href)=.?(http|//|file)", page)
  classes = regions.read(folder / "m.tif")[0][..., 0]
  names = regions.task().class_names
  for text in [names[value] for value in np.unique(classes)]:
    assert text in page
  for text in ("a.tif", "EPSG:2154", "m_confidence.tif", "weights", "Olofsson"):
    assert text in page


def test_products_are_added_to_a_finished_map(folder, run, monkeypatch, capsys):
  folder, words = folder
  monkeypatch.setattr(network, "WindowNetwork", None)
  before = (folder / "m.tif").read_bytes()
  out = folder / "m.gpkg"
  words = [*words, "--polygons", out, "--areas", folder / "zones.geojson"]
  write = polygons.write

  def stop(*args):
    raise KeyboardInterrupt

  monkeypatch.setattr(products.polygons, "write", stop)
  zonal(run, folder / "m.tif", *words, code=130)
  assert not out.exists()
  monkeypatch.setattr(products.polygons, "write", write)
  zonal(run, folder / "m.tif", *words)
  meta, _, _, fields = pyogrio.raw.read(out, layer=COSIA)
  table = dict(zip(meta["fields"], fields, strict=True))
  assert table["area_m2"].sum() == pytest.approx(NUM_PIXELS * 0.04)
  largest, _ = regions.read(folder / "m_confidence.tif")
  mean = np.average(table["confidence"], weights=table["area_m2"])
  assert mean == pytest.approx(largest.mean() / 250, abs=0.02)
  zones = rows(folder / "m_zones.csv")
  assert {row["zone_name"] for row in zones} == {"<mill>"}
  assert sum(float(row["area_m2"]) for row in zones) == pytest.approx(16)
  assert "m.gpkg" in (folder / "m.html").read_text()
  assert (folder / "m.tif").read_bytes() == before
  other = folder / "x.gpkg"
  other.write_text("mine")
  capsys.readouterr()
  zonal(run, folder / "m.tif", *words, "--polygons", other, code=2)
  assert "x.gpkg: expected no file, or polygons" in capsys.readouterr().err
  assert other.read_text() == "mine"


def test_what_cannot_be_written_is_refused_first(folder, run, capsys):
  folder, words = folder
  path = folder / "n.tif"
  regions.write_raster(
    path, regions.image(40, 40), crs=None, transform=Affine.identity()
  )
  zone, misplaced = (X, Y - 4, X + 4, Y), folder / "degrees.geojson"
  regions.write_zones(misplaced, zone, crs="OGC:1.3:CRS84")
  elsewhere = folder / "elsewhere.geojson"
  regions.write_zones(elsewhere, (X + 50, Y, X + 60, Y + 10))
  for extra, text in (
    (("--areas", elsewhere), "expected zones in the map (700000-700018 E"),
    (("--polygons", folder / "p.shp"), "a name that ends in .gpkg"),
    (("--scores", folder / "zones.geojson"), "19 x 19 counts"),
    (("--areas", folder / "none.gpkg"), "no file of that name"),
    (("--areas", misplaced), "expected coordinates in EPSG:4326"),
    (("--input", path), "--min-area: expected rasters with a CRS"),
  ):
    words_ = words[2:] if "--input" in extra else words
    line = regions.refused(capsys, run, folder / "q.tif", *words_, *extra)
    assert text in line


@pytest.mark.parametrize("north", [(0.0, 1.0), (0.6, -0.8), None])
def test_pictures_have_an_arrow_to_the_north(tmp_path, monkeypatch, north):
  figures = []
  monkeypatch.setattr(
    map_sheet.canvas, "save", lambda figure, path: figures.append(figure)
  )
  map_sheet.draw_map(
    tmp_path / "p.png",
    np.zeros((30, 40), np.uint8),
    regions.task(),
    title="map",
    pixel=(0.2, 0.2),
    north=north,
  )
  (axis,) = figures[0].axes
  letters = [text for text in axis.texts if text.get_text() == "N"]
  arrows = [p for p in axis.patches if isinstance(p, patches.FancyArrowPatch)]
  assert len(letters) == len(arrows) == (north is not None)
  for arrow in arrows:
    start, end = arrow._posA_posB
    right, down = np.subtract(end, start)
    assert right * north[1] + down * north[0] == pytest.approx(0)
    assert right * north[0] - down * north[1] > 0
