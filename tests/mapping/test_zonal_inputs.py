"""`flairhub zonal` with rasters that are not as the network expects them."""

import json
import resource

import numpy as np
import pytest
import yaml

from flairhub_jax.mapping import store
from tests.mapping import regions
from tests.mapping.regions import refused, zonal

SIDE = regions.SIDE


@pytest.fixture(scope="module")
def values():
  return regions.image(40, 50)


@pytest.fixture(scope="module")
def expected(run, values, tmp_path_factory):
  """The map of the right raster."""
  folder = tmp_path_factory.mktemp("right")
  path = regions.write_raster(folder / "a.tif", values)
  return zonal(run, folder / "m.tif", "--input", path)


def test_chosen_and_scaled_bands_give_the_same_map(
  run, values, expected, tmp_path, capsys
):
  other = values[..., [3, 0, 1, 2]].astype(np.float32) / 255
  path = regions.write_raster(tmp_path / "a.tif", other)
  line = refused(capsys, run, tmp_path / "m.tif", "--input", path)
  assert "--scale AERIAL_RGBI=255 turns 0-1 into 0-255" in line
  classes = zonal(
    run, tmp_path / "m.tif", "--input", path, "--bands", "2,3,4,1",
    "--scale", "AERIAL_RGBI=255",
  )  # fmt: skip
  np.testing.assert_array_equal(classes, expected)


def test_other_bands_make_another_map(run, values, tmp_path, capsys):
  path = regions.write_raster(tmp_path / "a.tif", values)
  out = tmp_path / "m.tif"
  zonal(run, out, "--input", path)
  zonal(run, out, "--input", path, "--bands", "4,3,2,1", code=2)
  assert "another map" in capsys.readouterr().err


def test_what_is_unlikely_is_a_warning(run, values, tmp_path, capsys):
  path = regions.write_raster(tmp_path / "a.tif", values[:20, :20] // 250)
  zonal(run, tmp_path / "m.tif", "--input", path)
  lines = capsys.readouterr().err.splitlines()
  warnings = [line for line in lines if line.startswith("warning: ")]
  assert any("--scale AERIAL_RGBI=FACTOR,OFFSET" in line for line in warnings)
  assert any("are less than a window of 32 x 32" in line for line in warnings)


def test_options_may_come_from_a_file(run, values, expected, tmp_path, capsys):
  regions.write_raster(tmp_path / "a.tif", values)
  options = {"input": "a.tif", "out": "none/m.tif", "window": SIDE}
  (tmp_path / "zone.yaml").write_text(yaml.safe_dump(options))
  out = tmp_path / "m.tif"
  classes = zonal(run, out, "--config", tmp_path / "zone.yaml")
  np.testing.assert_array_equal(classes, expected)
  (tmp_path / "bad.yaml").write_text("input: a.tif\nwindos: 3\n")
  line = refused(
    capsys, run, tmp_path / "n.tif", "--config", tmp_path / "bad.yaml"
  )
  assert "bad.yaml: expected a key of run, out, input" in line
  (tmp_path / "bomb.yaml").write_text("a: &a [1]\nb: [*a, *a]\n")
  line = refused(
    capsys, run, tmp_path / "n.tif", "--config", tmp_path / "bomb.yaml"
  )
  assert "YAML without aliases" in line


def test_tiles_without_a_header_are_left_out_on_request(
  run, values, tmp_path, capsys
):
  folder = tmp_path / "tiles"
  folder.mkdir()
  regions.write_raster(folder / "a.tif", values)
  (folder / "b.tif").write_bytes(b"II*\0")
  out = tmp_path / "m.tif"
  line = refused(capsys, run, out, "--input", folder)
  assert f"{folder / 'b.tif'}: expected a readable raster" in line
  classes = zonal(run, out, "--input", folder, "--skip-errors")
  assert classes.shape == (40, 50)
  assert "b.tif: left out, cannot be read" in capsys.readouterr().err
  # A raster that can be read and does not fit is no such tile.
  regions.write_raster(folder / "c.tif", values[..., :3])
  out = tmp_path / "n.tif"
  line = refused(capsys, run, out, "--input", folder, "--skip-errors")
  assert "c.tif: expected bands 4" in line


def test_areas_outside_the_raster_are_refused(run, values, tmp_path, capsys):
  path = regions.write_raster(tmp_path / "a.tif", values)
  ring = [[0, 0], [1, 0], [1, 1], [0, 0]]
  shape = {"type": "Polygon", "coordinates": [ring]}
  area = tmp_path / "far.geojson"
  area.write_text(
    json.dumps({"type": "Feature", "properties": {}, "geometry": shape})
  )
  words = ("--input", path, "--aoi", area)
  line = refused(capsys, run, tmp_path / "m.tif", *words)
  assert f"{area}: expected ground within the rasters (700000-700010" in line


def test_folders_that_cannot_be_written_are_refused(
  run, values, tmp_path, capsys
):
  path = regions.write_raster(tmp_path / "a.tif", values)
  zonal(run, "/proc/m.tif", "--input", path, code=2)
  line = capsys.readouterr().err
  assert "--out: expected a folder that can be written, found /proc" in line


def test_a_disk_that_fills_up_is_one_line(
  run, values, tmp_path, capsys, monkeypatch
):
  path = regions.write_raster(tmp_path / "a.tif", values)
  write = store.Store.write

  def write_on_a_small_disk(self, *args):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
      write(self, *args)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)

  monkeypatch.setattr(store.Store, "write", write_on_a_small_disk)
  out = tmp_path / "m.tif"
  zonal(run, out, "--input", path, code=1)
  lines = capsys.readouterr().err.splitlines()
  assert f"flairhub zonal: {out}: cannot be written: File too large" in lines
  assert not out.exists()
  monkeypatch.undo()
  zonal(run, out, "--input", path)
  assert not out.with_name(".m.parts").exists()
