"""`flairhub zonal` with several sensors, wrong input and real rasters."""

import json
import shutil

import numpy as np
import pytest
import rasterio
import rasterio.warp
from rasterio import Affine

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import area, grid, mosaic, region
from tests.mapping import regions
from tests.mapping.regions import refused, zonal

SIDE = regions.SIDE
X, Y = regions.ORIGIN


@pytest.fixture(scope="module")
def both(tmp_path_factory):
  """A network of an image and a series, which tolerates missing ones."""
  folder = tmp_path_factory.mktemp("runs") / "both"
  return regions.write_run(
    folder,
    modalities=("AERIAL_RGBI", "SENTINEL2_TS"),
    pixels=256,
    **{"fusion.kind": "late_mean"},
  )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Rasters of an image and a series of three dates, and its mask."""
  folder = tmp_path_factory.mktemp("rasters")
  regions.write_raster(folder / "aerial.tif", regions.image(300, 260))
  series = regions.image(8, 7, 30, seed=1, dtype=np.uint16) * 10
  regions.write_raster(folder / "s2.tif", series, pixel=10.24)
  mask = np.zeros((8, 7, 6), np.uint8)
  mask[..., 3] = 100  # the second date is cloudy
  regions.write_raster(folder / "mask.tif", mask, pixel=10.24)
  (folder / "dates.txt").write_text("20190105\n20190220\n20190601\n")
  return folder


def of_series(folder):
  return (
    "--input", f"SENTINEL2_TS={folder / 's2.tif'}",
    "--dates", f"SENTINEL2_TS={folder / 'dates.txt'}",
  )  # fmt: skip


def test_several_sensors_make_one_map(both, folder, tmp_path, capsys):
  aerial = ("--input", f"AERIAL_RGBI={folder / 'aerial.tif'}")
  whole = zonal(both, tmp_path / "w.tif", *aerial, *of_series(folder))
  assert whole.shape == (300, 260) and whole.max() < 19
  messages = capsys.readouterr().err
  assert "SENTINEL2_TS: 1 file, 8 x 7 pixels of 10.24 m" in messages
  assert "memory: " in messages
  mask = ("--mask", f"SENTINEL2_TS={folder / 'mask.tif'}")
  clear = zonal(both, tmp_path / "c.tif", *aerial, *of_series(folder), *mask)
  assert (clear != whole).any()
  # The map of the clear dates is that of a series without the cloudy one.
  with rasterio.open(folder / "s2.tif") as raster:
    values = np.moveaxis(raster.read(), 0, -1)
  clear_dates = np.concatenate([values[..., :10], values[..., 20:]], -1)
  regions.write_raster(tmp_path / "s2.tif", clear_dates, pixel=10.24)
  (tmp_path / "dates.txt").write_text("20190105\n20190601\n")
  two = zonal(both, tmp_path / "t.tif", *aerial, *of_series(tmp_path))
  assert (clear == two).mean() >= 0.999


def test_sensors_may_be_missing_everywhere_or_in_part(
  both, folder, tmp_path, capsys
):
  aerial = f"AERIAL_RGBI={folder / 'aerial.tif'}"
  alone = zonal(both, tmp_path / "a.tif", "--input", aerial)
  assert "SENTINEL2_TS: no raster; absent everywhere" in capsys.readouterr().err
  with rasterio.open(folder / "s2.tif") as raster:
    left = np.moveaxis(raster.read(), 0, -1)[:2, :2]
  regions.write_raster(tmp_path / "s2.tif", left, pixel=10.24)
  (tmp_path / "dates.txt").write_text("20190105\n20190220\n20190601\n")
  part = zonal(
    both, tmp_path / "p.tif", "--input", aerial, *of_series(tmp_path)
  )
  assert "SENTINEL2_TS: absent in 100 %" in capsys.readouterr().err
  assert (part == alone).mean() >= 0.999 and alone.max() < 19


@pytest.mark.slow
def test_subsets_of_dates_are_averaged(both, folder, tmp_path):
  """Three subsets of three dates: the mean of the maps of each date."""
  aerial = ("--input", f"AERIAL_RGBI={folder / 'aerial.tif'}")
  words = (*aerial, "--probabilities", "all")
  zonal(
    both, tmp_path / "m.tif", *words, *of_series(folder), "--date-subsets", 3
  )
  with rasterio.open(folder / "s2.tif") as raster:
    values = np.moveaxis(raster.read(), 0, -1)
  dates = (folder / "dates.txt").read_text().split()
  each = []
  for number, date in enumerate(dates):
    own = values[..., 10 * number : 10 * number + 10]
    regions.write_raster(tmp_path / "s2.tif", own, pixel=10.24)
    (tmp_path / "dates.txt").write_text(f"{date}\n")
    zonal(both, tmp_path / f"{number}.tif", *words, *of_series(tmp_path))
    each.append(regions.read(tmp_path / f"{number}_probabilities.tif")[0])
  actual, _ = regions.read(tmp_path / "m_probabilities.tif")
  assert (each[0] != each[1]).any()
  np.testing.assert_allclose(actual, np.mean(each, 0), atol=1)


def test_rasters_elsewhere_are_refused_with_both_extents(
  both, folder, tmp_path, capsys
):
  far = Affine(0.2, 0, X + 9000, 0, -0.2, Y)
  path = regions.write_raster(
    tmp_path / "far.tif", regions.image(40, 40), transform=far
  )
  line = refused(
    capsys, both, tmp_path / "m.tif", "--input", f"AERIAL_RGBI={path}",
    *of_series(folder),
  )  # fmt: skip
  assert "709000-709008 E" in line and "700000-700071.68 E" in line


def test_another_crs_is_refused_or_warped(both, folder, tmp_path, capsys):
  # Both have their meridian at 3 degrees east: no turn here.
  (x,), (y,) = rasterio.warp.transform("EPSG:2154", "EPSG:32631", [X], [Y])
  path = regions.write_raster(
    tmp_path / "utm.tif",
    regions.image(300, 260),
    transform=Affine(0.2, 0, x, 0, -0.2, y),
    crs="EPSG:32631",
  )
  words = ("--input", f"AERIAL_RGBI={path}", *of_series(folder))
  line = refused(capsys, both, tmp_path / "m.tif", *words)
  assert "expected EPSG:32631" in line and "found EPSG:2154" in line
  assert "--reproject" in line
  classes = zonal(both, tmp_path / "r.tif", *words, "--reproject")
  assert classes.shape == (300, 260) and (classes != 255).all()
  # The series was read where it lies: the map is that of rasters of one CRS.
  same = ("--input", f"AERIAL_RGBI={folder / 'aerial.tif'}")
  expected = zonal(both, tmp_path / "e.tif", *same, *of_series(folder))
  assert (classes == expected).mean() > 0.8


def test_rasters_without_crs_are_not_warped(both, folder, tmp_path, capsys):
  path = regions.write_raster(
    tmp_path / "s2.tif", regions.image(8, 7, 30), pixel=10.24, crs=None
  )
  (tmp_path / "dates.txt").write_text("20190105\n20190220\n20190601\n")
  aerial = ("--input", f"AERIAL_RGBI={folder / 'aerial.tif'}")
  line = refused(
    capsys, both, tmp_path / "m.tif", *aerial, *of_series(tmp_path),
    "--reproject",
  )  # fmt: skip
  assert f"{path}: expected a CRS, to be warped, found none" in line


def test_tiles_of_another_crs_are_warped_to_one_grid(tmp_path):
  crs = rasterio.CRS.from_epsg(2154).to_wkt()
  values = regions.image(60, 80)
  for i, first in enumerate((0, 30)):
    (x,), (y,) = rasterio.warp.transform("EPSG:2154", "EPSG:32631", [X], [Y])
    regions.write_raster(
      tmp_path / f"{i}.tif",
      values[:, first : first + 50],
      transform=Affine(0.2, 0, x + 0.2 * first, 0, -0.2, y),
      crs="EPSG:32631",
      nodata=0,
    )
  tiles = mosaic.Mosaic(
    [tmp_path / "0.tif", tmp_path / "1.tif"], num_bands=4, target_crs=crs
  )
  values_read, missing = tiles.read(0, 0, tiles.grid.height, tiles.grid.width)
  assert not tiles.notes and tiles.grid.width in (80, 81)
  assert (~missing).mean() > 0.95
  inner = values_read[5:55, 5:75]
  assert (inner == values[5:55, 5:75]).mean() > 0.8
  tiles.close()


def test_areas_of_another_crs_are_warped(tmp_path):
  ground = grid.Grid(
    rasterio.CRS.from_epsg(2154).to_wkt(), Affine(0.2, 0, X, 0, -0.2, Y), 75, 90
  )
  corners = [(X + 2, Y - 2), (X + 12, Y - 2), (X + 12, Y - 11), (X + 2, Y - 2)]
  longitudes, latitudes = rasterio.warp.transform(
    "EPSG:2154", "EPSG:4326", *zip(*corners, strict=True)
  )
  ring = [list(p) for p in zip(longitudes, latitudes, strict=True)]
  geometry = {"type": "MultiPolygon", "coordinates": [[ring]]}
  (tmp_path / "a.geojson").write_text(
    json.dumps({"type": "Feature", "properties": {}, "geometry": geometry})
  )
  inside = area.Area(tmp_path / "a.geojson", ground.crs).on(ground)
  rows, columns = np.mgrid[:75, :90] * 0.2 + 0.1
  expected = (columns > 2) & (columns < 12) & (rows > 2)
  expected &= (rows - 2) * 10 < (columns - 2) * 9
  assert (inside(0, 0, 75, 90) != expected).mean() < 0.002
  part = inside(10, -5, 20, 30)
  np.testing.assert_array_equal(part[:, 5:], inside(10, 0, 20, 25))
  (tmp_path / "p.geojson").write_text(
    json.dumps(
      {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Point", "coordinates": ring[0]},
      }
    )
  )
  with pytest.raises(InputError, match="expected polygons, found 1 shapes"):
    area.Area(tmp_path / "p.geojson", ground.crs)


def test_a_full_disk_is_reported_before_the_start(
  run, folder, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(
    region.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0)
  )
  words = ("--input", folder / "aerial.tif")
  line = refused(capsys, run, tmp_path / "m.tif", *words, code=1)
  assert "of free disk" in line


def test_pixels_in_degrees(run, tmp_path, capsys):
  transform = Affine(2.5e-6, 0, 3.0, 0, -1.8e-6, 46.5)
  path = regions.write_raster(
    tmp_path / "a.tif",
    regions.image(40, 50),
    transform=transform,
    crs="EPSG:4326",
  )
  classes = zonal(run, tmp_path / "m.tif", "--input", path)
  assert classes.shape == (40, 50) and classes.max() < 19
  assert "pixels of 0.19" in capsys.readouterr().err


def test_a_raster_without_crs_works_with_a_warning(run, tmp_path, capsys):
  path = regions.write_raster(
    tmp_path / "a.tif", regions.image(40, 50), transform=Affine.identity(),
    crs=None,
  )  # fmt: skip
  classes = zonal(run, tmp_path / "m.tif", "--input", path)
  assert classes.shape == (40, 50)
  assert "warning: AERIAL_RGBI: no CRS" in capsys.readouterr().err
  profile = regions.read(tmp_path / "m.tif")[1]
  assert profile["crs"] is None and profile["transform"].is_identity


def test_damaged_tiles_end_a_run_or_are_left_out(run, tmp_path, capsys):
  tiles = tmp_path / "tiles"
  tiles.mkdir()
  for i in range(3):
    transform = Affine(0.2, 0, X + 0.2 * 64 * i, 0, -0.2, Y)
    regions.write_raster(
      tiles / f"{i}.tif", regions.image(60, 64, seed=i), transform=transform
    )
  data = (tiles / "1.tif").read_bytes()
  (tiles / "1.tif").write_bytes(data[: len(data) // 2])
  out = tmp_path / "m.tif"
  zonal(run, out, "--input", tiles, code=1)
  assert f"{tiles / '1.tif'}: cannot be read" in capsys.readouterr().err
  assert not out.exists()
  classes = zonal(run, out, "--input", tiles, "--skip-errors")
  assert "1.tif: left out" in capsys.readouterr().err
  assert (classes[:, :64] != 255).all() and (classes[:, 128:] != 255).all()
  assert (classes[:, 64:128] == 255).any()


def test_wrong_input_is_one_line(run, both, folder, tmp_path, capsys):
  aerial, out = folder / "aerial.tif", tmp_path / "m.tif"
  (tmp_path / "two.txt").write_text("20190105\n20190220\n")
  series = of_series(folder)[:2]
  cases = [
    (run, ("--input", folder / "none.tif"), "none.tif: expected a raster"),
    (run, ("--input", folder / "s2.tif"), "expected 4 bands (R, G, B, NIR)"),
    (run, ("--input", "/vsicurl/http://x/a.tif"), "a path on this machine"),
    (both, series, "--dates SENTINEL2_TS=FILE: expected the dates"),
    (
      both,
      (*series, "--dates", f"SENTINEL2_TS={tmp_path / 'two.txt'}"),
      "expected 3 dates",
    ),
    (
      run,
      ("--input", aerial, "--bounds", 1, 1, 2, 2),
      "--bounds: expected ground within the rasters",
    ),
    (run, ("--input", aerial, "--aoi", tmp_path / "x.gpkg"), "a vector file"),
    (run, ("--input", aerial, "--overlap", SIDE), "--overlap: expected 0-31"),
    (run, ("--input", aerial, "--probabilities", "sea"), "--probabilities"),
    (both, ("--input", aerial), "expected AERIAL_RGBI|SENTINEL2_TS=PATH"),
  ]
  for which, words, text in cases:
    assert text in refused(capsys, which, out, *words), words
  folder_like = tmp_path / "no" / "m.tif"
  zonal(run, folder_like, "--input", aerial, code=2)
  assert "an existing folder" in capsys.readouterr().err


def test_runs_without_checkpoint_are_refused(folder, tmp_path, capsys):
  run = regions.write_run(tmp_path / "run", pixels=SIDE)
  shutil.rmtree(run.checkpoints)
  line = refused(
    capsys, run, tmp_path / "m.tif", "--input", folder / "aerial.tif"
  )
  assert "checkpoint" in line


REAL = [
  "ign_montpellier_fr/AERIAL_RGBI.tif",
  "naip_north_dakota_us/AERIAL_RGBI_20120731.tif",
  "rotterdam_a_nl/SPOTLIKE_RGBI.tif",
  "virginia_dem_us/DEM_ELEV.tif",
  "bouconne_fr/SENTINEL2_TS.tif",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_maps_of_real_rasters_lie_on_them(name, shared, tmp_path):
  path = shared / "real" / "zonal" / name
  sensor = {
    "AER": "AERIAL_RGBI",
    "SPO": "SPOT_RGBI",
    "DEM": "DEM_ELEV",
    "SEN": "SENTINEL2_TS",
  }[path.name[:3]]
  run = regions.write_run(tmp_path / "run", modalities=(sensor,), pixels=512)
  words = ["--input", path, "--window", 128]
  if sensor == "SENTINEL2_TS":
    words += ["--dates", path.with_name("dates_SENTINEL2.txt")]
  zonal(run, tmp_path / "m.tif", *words)
  with (
    rasterio.open(path) as source,
    rasterio.open(tmp_path / "m.tif") as written,
  ):
    assert written.shape == source.shape and written.crs == source.crs
    assert written.transform == source.transform
    no_data = source.read_masks().max(0) == 0
    if source.count == 4 and source.nodata is None:
      no_data[:] = False  # near infrared, marked as alpha
    np.testing.assert_array_equal(written.read(1) == 255, no_data)


@pytest.mark.parametrize(("resolution", "size"), [(0.4, 75), (0.1, 300)])
def test_maps_of_another_resolution(run, resolution, size, tmp_path):
  path = regions.write_raster(tmp_path / "a.tif", regions.image(150, 150))
  own = zonal(run, tmp_path / "own.tif", "--input", path)
  words = ("--input", path, "--resolution", resolution)
  classes = zonal(run, tmp_path / "m.tif", *words)
  assert classes.shape == (size, size) and classes.max() < 19
  transform = regions.read(tmp_path / "m.tif")[1]["transform"]
  assert transform.a == pytest.approx(resolution)
  assert (transform.c, transform.f) == (X, Y)
  index = ((np.arange(size) + 0.5) * resolution / 0.2).astype(int)
  assert (classes == own[np.ix_(index, index)]).mean() > 0.8
