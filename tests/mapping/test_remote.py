"""Rasters elsewhere: refused without permission, read with it."""

import contextlib
import http.server
import threading

import numpy as np
import pytest
import rasterio

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import locate, mosaic, remote
from tests.mapping import regions
from tests.mapping.regions import zonal


class Handler(http.server.SimpleHTTPRequestHandler):
  """Serves a folder, with ranges as GDAL asks for them."""

  def do_GET(self):
    self.server.requests.append(self.path)
    super().do_GET()

  def do_HEAD(self):
    self.server.requests.append(self.path)
    super().do_HEAD()

  def log_message(self, *args):
    pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
  """Address and requests of a server of one raster."""
  folder = tmp_path_factory.mktemp("served")
  regions.write_raster(folder / "a.tif", regions.image(40, 50))
  own = http.server.ThreadingHTTPServer(
    ("127.0.0.1", 0),
    lambda *args: Handler(*args, directory=str(folder)),
  )
  own.requests = []
  thread = threading.Thread(target=own.serve_forever, daemon=True)
  thread.start()
  yield own
  own.shutdown()
  own.server_close()
  thread.join()


@pytest.fixture
def address(server):
  server.requests.clear()
  return f"http://127.0.0.1:{server.server_address[1]}/a.tif"


def read(files):
  with contextlib.closing(mosaic.Mosaic(files, num_bands=4)) as tiles:
    return tiles.read(0, 0, tiles.grid.height, tiles.grid.width)[0]


def test_addresses_are_read_with_permission(address, server, tmp_path):
  (tmp_path / "list.txt").write_text(f"{address}\n")
  (tmp_path / "r.vrt").write_text(virtual(f"/vsicurl/{address}"))
  for text in (
    address,
    f"/vsicurl/{address}",
    str(tmp_path / "list.txt"),
    str(tmp_path / "r.vrt"),
  ):
    server.requests.clear()
    files = locate.rasters(text, where="--input", allow_remote=True)
    np.testing.assert_array_equal(read(files), regions.image(40, 50))
    assert server.requests or text != address  # later, GDAL has a copy


def test_nothing_is_opened_without_permission(address, server, tmp_path):
  (tmp_path / "list.txt").write_text(f"{address}\n")
  (tmp_path / "r.vrt").write_text(virtual(f"/vsicurl/{address}"))
  for text in (address, str(tmp_path / "list.txt"), str(tmp_path / "r.vrt")):
    with pytest.raises(InputError, match="--allow-remote, found the remote"):
      locate.rasters(text, where="--input")
  assert not server.requests


def virtual(source):
  """A VRT of the four bands of a raster."""
  bands = "".join(
    f'<VRTRasterBand dataType="Byte" band="{i}"><SimpleSource>'
    f"<SourceFilename>{source}</SourceFilename><SourceBand>{i}</SourceBand>"
    "</SimpleSource></VRTRasterBand>"
    for i in range(1, 5)
  )
  return f'<VRTDataset rasterXSize="50" rasterYSize="40">{bands}</VRTDataset>'


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("ftp://x/a.tif", "an address that begins with http://"),
    ("/vsimem/a.tif", "an address that begins with"),
    ("/vsistdin/", "an address that begins with"),
    ("/vsizip//vsicurl/http://x/a.zip", "an address that begins with"),
    ("https://x/a.vrt", "a raster, or a local VRT"),
    ("https://x/a.vrt?b=c", "a raster, or a local VRT"),
  ],
)
def test_other_addresses_are_refused_with_permission(text, message):
  with pytest.raises(InputError, match=message):
    locate.rasters(text, where="--input", allow_remote=True)


@pytest.mark.parametrize(
  "source",
  [
    "/vsimem/a.tif",
    "http://x/a.tif",
    "/vsicurl/http://x/a.xml",
    "WMS:http://x",
  ],
)
def test_other_sources_of_a_vrt_are_refused_with_permission(tmp_path, source):
  path = tmp_path / "r.vrt"
  path.write_text(virtual(source))
  with pytest.raises(InputError, match="expected sources"):
    locate.rasters(str(path), where="--input", allow_remote=True)


def test_names_of_addresses():
  path = remote.parse("s3://bucket/folder/a.TIF", where="--input")
  assert path.gdal_name == "/vsis3/bucket/folder/a.TIF"
  assert (path.name, path.suffix) == ("a.TIF", ".TIF")
  path = remote.parse("https://x/a.tif?token=b/c.d", where="--input")
  assert path.gdal_name == "/vsicurl/https://x/a.tif?token=b/c.d"
  assert (path.name, str(path)) == ("a.tif", "https://x/a.tif?token=b/c.d")


def test_a_server_without_an_answer_is_one_line(server, address, tmp_path):
  (file,) = locate.rasters(
    address.replace("a.tif", "b.tif"), where="--input", allow_remote=True
  )
  with pytest.raises(InputError, match=r"b\.tif: expected a readable raster"):
    mosaic.Mosaic([file], num_bands=4)


def test_a_map_of_an_address(run, address, tmp_path):
  words = ("--input", address, "--allow-remote")
  classes = zonal(run, tmp_path / "m.tif", *words)
  path = regions.write_raster(tmp_path / "a.tif", regions.image(40, 50))
  expected = zonal(run, tmp_path / "e.tif", "--input", path)
  np.testing.assert_array_equal(classes, expected)
  with rasterio.open(tmp_path / "m.tif") as written:
    assert "a.tif" in written.tags()["FLAIRHUB_INPUTS"]
