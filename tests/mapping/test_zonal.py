"""`flairhub zonal` as a user calls it."""

import json
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
import rasterio
import scipy.stats
from rasterio import Affine

from flairhub_jax import __main__, configuration
from flairhub_jax.inference import trained
from flairhub_jax.mapping import bands, store
from flairhub_jax.models import build
from tests.mapping import regions
from tests.mapping.regions import zonal
from tests.two_processes import in_two_processes

SIDE = regions.SIDE
X, Y = regions.ORIGIN


@pytest.fixture(scope="module")
def values():
  return regions.image(75, 90)


@pytest.fixture(scope="module")
def raster(values, tmp_path_factory):
  folder = tmp_path_factory.mktemp("rasters")
  return regions.write_raster(folder / "aerial.tif", values)


def direct(run, image, output_size=None):
  """Logits of one image [h w c] without any of the mapping code."""
  config = configuration.load_json(run.config)
  batch = {"inputs": {"AERIAL_RGBI": image[None]}}
  size = output_size or image.shape[:2]
  model = build.build_segmenter(config, output_size=size)
  variables, _ = trained.restore(run.path, build.variables_shape(model, batch))
  apply = jax.jit(lambda v, b: model.apply(v, b)["logits"][regions.COSIA])
  return np.asarray(apply(variables, batch))[0]


def test_one_window_is_one_forward_pass(run, values, tmp_path):
  path = regions.write_raster(tmp_path / "a.tif", values[:SIDE, :SIDE])
  classes = zonal(run, tmp_path / "m.tif", "--input", path)
  expected = direct(run, values[:SIDE, :SIDE]).argmax(-1)
  assert len(np.unique(expected)) > 1
  assert (classes == expected).mean() >= 0.999


def test_a_map_blends_windows(run, values, raster, tmp_path):
  classes = zonal(
    run, tmp_path / "m.tif", "--input", raster, "--overlap", 8,
    "--layers", "entropy", "confidence", "margin", "--probabilities", "all",
    "--probability-dtype", "float32",
  )  # fmt: skip
  sums, total = np.zeros((75, 90, 19)), np.zeros((75, 90, 1))
  rise = np.sin(np.pi * (np.arange(8) + 0.5) / 16) ** 2
  profile = np.concatenate([rise, np.ones(SIDE - 16), rise[::-1]])
  weight = np.outer(profile, profile)[..., None]
  for row in (0, 24, 43):
    for col in (0, 24, 48, 58):
      here = np.s_[row : row + SIDE, col : col + SIDE]
      logits = direct(run, values[here])
      sums[here] += weight * np.asarray(jax.nn.softmax(logits, -1))
      total[here] += weight
  expected = sums / total
  assert (classes == expected.argmax(-1)).mean() >= 0.999
  shares, profile = regions.read(tmp_path / "m_probabilities.tif")
  assert np.isnan(profile["nodata"])
  np.testing.assert_allclose(shares, expected, atol=0.0005)
  ordered = np.sort(shares, -1)
  measures = {
    "confidence": ordered[..., -1],
    "margin": ordered[..., -1] - ordered[..., -2],
    "entropy": scipy.stats.entropy(shares, base=19, axis=-1),
  }
  for name, numbers in measures.items():
    with rasterio.open(tmp_path / f"m_{name}.tif") as written:
      assert written.nodata == 255
      stored = written.read(1) * written.scales[0]
    np.testing.assert_allclose(stored, numbers, atol=0.0021)


def test_a_map_does_not_depend_on_the_batch(run, raster, tmp_path):
  maps = [
    zonal(run, tmp_path / f"{n}.tif", "--input", raster, "--batch", n)
    for n in (2, 6)
  ]
  assert (maps[0] == maps[1]).mean() >= 0.999


def test_files_of_a_map(run, raster, tmp_path):
  classes = zonal(run, tmp_path / "m.tif", "--input", raster)
  with (
    rasterio.open(raster) as source,
    rasterio.open(tmp_path / "m.tif") as written,
  ):
    assert written.shape == source.shape
    assert written.crs == source.crs and written.transform == source.transform
    assert written.nodata == 255 and written.dtypes == ("uint8",)
    assert written.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    task = configuration.load_json(run.config).schema.tasks[regions.COSIA]
    assert written.colormap(1)[6][:3] == tuple(task.palette[6])
    origin = json.loads(written.tags()["FLAIRHUB_ORIGIN"])
    contract = json.loads(written.tags()["FLAIRHUB_CONTRACT"])
  assert origin["run"] == run.path.name and origin["step"] == 3
  assert contract["sensors"][0]["bands"] == ["R", "G", "B", "NIR"]
  side = ElementTree.parse(tmp_path / "m.tif.aux.xml").getroot()
  categories = [each.text for each in side.iter("Category")]
  assert categories == list(task.class_names)
  table = side.find(".//GDALRasterAttributeTable")
  uses = [int(each.find("Usage").text) for each in table.iter("FieldDefn")]
  assert uses == [5, 2, 6, 7, 8, 9]
  rows = [[cell.text for cell in row] for row in table.iter("Row")]
  assert len(rows) == 19
  assert rows[6] == [
    "6",
    task.classes[6].name,
    *map(str, task.palette[6]),
    "255",
  ]
  for suffix, attribute in ((".qml", "value"), (".sld", "quantity")):
    root = ElementTree.parse(tmp_path / f"m{suffix}").getroot()
    entries = [
      (each.get("color"), each.get("label"))
      for each in root.iter()
      if each.get(attribute)
    ]
    assert entries == [(each.colour, each.name) for each in task.classes]
  assert (tmp_path / "m.png").stat().st_size > 5000
  assert classes.max() < 19
  assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_large_maps_have_overviews(run, tmp_path):
  path = regions.write_raster(tmp_path / "a.tif", regions.image(40, 1100))
  zonal(run, tmp_path / "m.tif", "--input", path, "--overlap", 0)
  with rasterio.open(tmp_path / "m.tif") as written:
    assert written.overviews(1) and written.profile["tiled"]


def test_south_up_rasters_are_mapped_north_up(run, values, raster, tmp_path):
  expected = zonal(run, tmp_path / "n.tif", "--input", raster)
  transform = Affine(0.2, 0, X, 0, 0.2, Y - 0.2 * len(values))
  path = regions.write_raster(
    tmp_path / "s.tif", values[::-1], transform=transform
  )
  classes = zonal(run, tmp_path / "m.tif", "--input", path)
  np.testing.assert_array_equal(classes, expected[::-1])
  assert regions.read(tmp_path / "m.tif")[1]["transform"] == transform


def test_no_data_stays_no_data(run, values, tmp_path):
  values = values.copy()
  values[10:60, 20:75] = 0
  path = regions.write_raster(tmp_path / "a.tif", values, nodata=0)
  classes = zonal(
    run, tmp_path / "m.tif", "--input", path, "--layers", "confidence"
  )
  hole = np.zeros(values.shape[:2], bool)
  hole[10:60, 20:75] = True
  np.testing.assert_array_equal(classes == 255, hole)
  largest, _ = regions.read(tmp_path / "m_confidence.tif")
  np.testing.assert_array_equal(largest[..., 0] == 255, hole)


def test_rasters_smaller_than_a_window_are_mapped(run, values, tmp_path):
  path = regions.write_raster(tmp_path / "a.tif", values[:20, :11])
  classes = zonal(run, tmp_path / "m.tif", "--input", path)
  assert classes.shape == (20, 11) and classes.max() < 19
  across = [*range(11), *range(10, -1, -1), *range(10)]
  down = [*range(20), *range(19, 7, -1)]
  mirrored = values[down][:, across]
  expected = direct(run, mirrored).argmax(-1)[:20, :11]
  assert (classes == expected).mean() >= 0.99


def test_pixels_that_are_not_square(run, values, tmp_path):
  tall = values[::2]  # 0.4 m from row to row
  transform = Affine(0.2, 0, X, 0, -0.4, Y)
  path = regions.write_raster(tmp_path / "a.tif", tall, transform=transform)
  classes = zonal(run, tmp_path / "m.tif", "--input", path)
  assert classes.shape == tall.shape[:2] and classes.max() < 19


def test_the_area_of_interest_is_mapped(run, raster, tmp_path):
  whole = zonal(run, tmp_path / "w.tif", "--input", raster)
  ring = [[X + 2, Y - 2], [X + 12, Y - 2], [X + 12, Y - 11], [X + 2, Y - 2]]
  shape = {"type": "Polygon", "coordinates": [ring]}
  crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2154"}}
  (tmp_path / "a.geojson").write_text(
    json.dumps(
      {
        "type": "FeatureCollection",
        "crs": crs,
        "features": [{"type": "Feature", "properties": {}, "geometry": shape}],
      }
    )
  )
  aoi = tmp_path / "a.geojson"
  classes = zonal(run, tmp_path / "m.tif", "--input", raster, "--aoi", aoi)
  assert classes.shape == (45, 50) and classes[0, -1] != 255
  assert (classes[-1, :-2] == 255).all()
  bounds = ("--bounds", X + 2, Y - 11, X + 12, Y - 2)
  part = zonal(run, tmp_path / "b.tif", "--input", raster, *bounds)
  assert part.shape == (45, 50) and (part != 255).all()
  assert whole.shape == (75, 90)
  profile = regions.read(tmp_path / "b.tif")[1]
  assert profile["transform"].c == pytest.approx(X + 2)


def test_resumed_runs_and_jobs_end_with_the_same_bytes(
  run, raster, tmp_path, monkeypatch, capsys
):
  words = ("--input", raster, "--layers", "confidence", "--overlap", 12)
  monkeypatch.setattr(bands, "_BATCHES", 1)  # a band is a row of windows
  expected = zonal(run, tmp_path / "bands.tif", *words)
  finish, done = store.Store.finish, []

  def finish_and_stop(self, number, counts):
    finish(self, number, counts)
    done.append(number)
    if len(done) == 2:
      raise KeyboardInterrupt

  monkeypatch.setattr(store.Store, "finish", finish_and_stop)
  out = tmp_path / "m.tif"
  zonal(run, out, *words, code=130)
  assert not out.exists()
  zonal(run, out, *words, "--window", 24, code=2)
  assert "another unfinished" in capsys.readouterr().err
  argv = ["zonal", "--run", run.path, "--out", out, *words, "--job", "2/2"]
  assert __main__.main([str(word) for word in argv]) == 0
  assert done == [0, 1, 2, 3]
  assert "job 2/2 is finished" in capsys.readouterr().out
  assert not out.exists()
  np.testing.assert_array_equal(zonal(run, out, *words), expected)
  assert done == [0, 1, 2, 3]
  for name in ("", "_confidence"):
    bytes_of = (tmp_path / f"bands{name}.tif").read_bytes()
    assert (tmp_path / f"m{name}.tif").read_bytes() == bytes_of
  assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_another_map_is_not_replaced(run, raster, tmp_path, capsys):
  out = tmp_path / "m.tif"
  zonal(run, out, "--input", raster)
  before = out.read_bytes()
  zonal(run, out, "--input", raster)
  assert "exists already" in capsys.readouterr().out
  zonal(run, out, "--input", raster, "--overlap", 4, code=2)
  assert "another map" in capsys.readouterr().err
  assert out.read_bytes() == before
  (tmp_path / "x.tif").write_text("mine")
  zonal(run, tmp_path / "x.tif", "--input", raster, code=2)
  assert "another file" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_the_bands(run, tmp_path):
  path = regions.write_raster(tmp_path / "a.tif", regions.image(1700, SIDE))
  expected = zonal(run, tmp_path / "alone.tif", "--input", path)
  out = tmp_path / "m.tif"
  first, second = in_two_processes(
    "zonal", "--run", run.path, "--out", out, "--input", path
  )
  assert first.endswith(f"\n{out}\n") and second == ""
  classes, profile = regions.read(out)
  assert (classes[..., 0] == expected).mean() >= 0.999
  assert profile["crs"] == regions.read(path)[1]["crs"]
  assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
