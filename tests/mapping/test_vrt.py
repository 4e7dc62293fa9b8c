"""Virtual rasters read local rasters only."""

import numpy as np
import pytest
import rasterio.shutil

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import locate, mosaic, vrt
from tests.mapping import regions

SERVICE = "<GDAL_WMS><Service name='TMS'></Service></GDAL_WMS>"
ESCAPED = SERVICE.replace("<", "&lt;").replace(">", "&gt;")


def source(name, flag=' relativeToVRT="1"', tag="SourceFilename"):
  return f"<VRTDataset><{tag}{flag}>{name}</{tag}></VRTDataset>"


def refused(path, text, match):
  path.write_text(text)
  with pytest.raises(InputError, match=match) as error:
    locate.rasters(str(path), where="--input")
  assert str(error.value).startswith(f"{path}: expected ")
  assert "\n" not in str(error.value)


@pytest.fixture
def raster(tmp_path):
  return regions.write_raster(tmp_path / "a.tif", regions.image(8, 8))


def test_a_vrt_of_local_rasters_is_read(raster, tmp_path, monkeypatch):
  rasterio.shutil.copy(raster, tmp_path / "b.vrt", driver="VRT")
  path = tmp_path / "c.vrt"
  inner = (tmp_path / "b.vrt").read_text()
  assert 'relativeToVRT="1">a.tif<' in inner
  path.write_text(inner.replace(">a.tif<", ">b.vrt<"))
  assert locate.rasters(str(path), where="--input") == [path]
  tiles = mosaic.Mosaic([path], num_bands=4)
  values, missing = tiles.read(0, 0, 8, 8)
  np.testing.assert_array_equal(values, regions.image(8, 8))
  assert not missing.any()
  tiles.close()
  # Other names are relative to the current folder, as for GDAL.
  (tmp_path / "inner").mkdir()
  path = tmp_path / "inner" / "d.vrt"
  for flag in ("", ' relativeToVRT="0"'):
    path.write_text(source("a.tif", flag))
    monkeypatch.chdir(tmp_path)
    vrt.check(path)
    monkeypatch.chdir(tmp_path / "inner")
    refused(path, path.read_text(), "found 'a.tif'")
  refused(path, source("a.tif"), "found 'a.tif'")


@pytest.mark.parametrize("flag", ["", ' relativeToVRT="1"'])
@pytest.mark.parametrize("tag", ["SourceFilename", "SourceDataset"])
@pytest.mark.parametrize(
  "name",
  [
    "WMS:http://x/wms?LAYERS=a",
    ESCAPED,
    f"<![CDATA[{SERVICE}]]>",
    "service.xml",
    'NETCDF:"a.nc":b',
    "GTIFF_DIR:1:a.tif",
    "none.tif",
    "a.tif.bak",
    "a.tif<x/>",
    ".",
    "",
  ],
)
def test_other_sources_are_refused(
  raster, tmp_path, monkeypatch, name, tag, flag
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "service.xml").write_text(SERVICE)
  (tmp_path / "a.tif.bak").write_bytes(raster.read_bytes())
  text = source(name, flag, tag)
  refused(tmp_path / "r.vrt", text, "expected sources that are local rasters")
  # GDAL compares names without case.
  refused(tmp_path / "s.vrt", text.replace(tag, tag.lower()), "local rasters")


@pytest.mark.parametrize("name", ["/vsicurl/http://x/a.tif", "HTTPS://x/a.tif"])
def test_remote_sources_are_refused(tmp_path, name):
  refused(tmp_path / "r.vrt", source(name), f"a path on this .* '{name}'")
  refused(tmp_path / "s.vrt", source(name.upper()), "a path on this machine")


@pytest.mark.parametrize("content", [SERVICE, source("WMS:http://x"), ""])
@pytest.mark.parametrize("suffix", [".tif", ".jp2", ".png", ".jpeg"])
def test_descriptions_under_the_name_of_a_raster_are_refused(
  tmp_path, content, suffix
):
  (tmp_path / f"x{suffix}").write_text(content)
  refused(tmp_path / "r.vrt", source(f"x{suffix}"), f"found 'x{suffix}'")


def test_vrts_within_a_vrt_are_checked(tmp_path):
  (tmp_path / "in").mkdir()
  inner = tmp_path / "in" / "i.vrt"
  inner.write_text(source("WMS:http://x"))
  (tmp_path / "o.vrt").write_text(source("in/i.vrt"))
  with pytest.raises(InputError, match="found 'WMS:http://x'") as error:
    vrt.check(tmp_path / "o.vrt")
  assert str(error.value).startswith(f"{inner}: ")
  # Two that name each other end the check.
  inner.write_text(source("../o.vrt"))
  vrt.check(tmp_path / "o.vrt")


@pytest.mark.parametrize(
  "text",
  [
    '<!DOCTYPE V [<!ENTITY a "aaaa">]><V>&a;</V>',
    "<!doctype V SYSTEM 'http://x/v.dtd'><V/>",
    "<V><![CDATA[<!ENTITY a 'b'>]]></V>",
  ],
)
def test_entities_are_refused(tmp_path, text):
  refused(tmp_path / "r.vrt", text, "without DOCTYPE and ENTITY")


@pytest.mark.parametrize(
  ("text", "match"),
  [
    ("<V><OpenOptions/></V>", "found openoptions"),
    ('<V><MDI key="X_DATASET">a</MDI></V>', "found x_dataset"),
    ("<V><DEMPath>a</DEMPath></V>", "found dempath"),
    ('<V SourceFilename="WMS:http://x"/>', "found sourcefilename"),
    ("<V>", "expected a readable VRT"),
    (source("a.tif", ' relativeToVRT="yes"'), "found 'a.tif'"),
  ],
)
def test_files_named_otherwise_are_refused(raster, tmp_path, text, match):
  refused(tmp_path / "r.vrt", text, match)


def test_large_or_encoded_vrts_are_refused(raster, tmp_path):
  path = tmp_path / "r.vrt"
  text = source("a.tif")
  path.write_text(text + " " * (64 * 2**20 - len(text)))
  vrt.check(path)
  refused(path, path.read_text() + " ", "expected a VRT of at most 64 MiB")
  path.write_bytes(text.encode("utf-16"))
  with pytest.raises(InputError, match="expected a VRT in UTF-8"):
    vrt.check(path)
