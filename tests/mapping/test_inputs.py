import numpy as np
import pytest

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import date_file, inputs, locate
from tests.mapping import regions


@pytest.mark.parametrize(
  ("name", "text"),
  [
    ("a.txt", "20190105\n2019-02-20\n\n"),
    ("b.csv", "image,date\n1,20190105\n2,20190220\n"),
    ("c.json", '{"10": "20190220", "9": "20190105"}'),
    ("d.json", '["20190105", "20190220"]'),
  ],
)
def test_dates_are_read(tmp_path, name, text):
  (tmp_path / name).write_text(text)
  days = date_file.read_days(tmp_path / name)
  expected = np.array(["2019-01-05", "2019-02-20"], "datetime64[D]")
  np.testing.assert_array_equal(days, expected.astype(int))


@pytest.mark.parametrize(
  ("text", "match"),
  [
    ("20190105\n20191305\n", "line 2: expected a date"),
    ("20190105\nsoon\n", "line 2: expected a date"),
    ("", "expected dates as YYYYMMDD, found none"),
    ("{", "expected JSON"),
  ],
)
def test_wrong_dates_are_named(tmp_path, text, match):
  (tmp_path / "d.txt").write_text(text)
  with pytest.raises(InputError, match=match):
    date_file.read_days(tmp_path / "d.txt")


def test_a_path_stands_for_rasters(tmp_path):
  for name in ("b.tif", "a.tif", "c.txt.bak"):
    regions.write_raster(tmp_path / name, regions.image(8, 8))
  (tmp_path / "list.txt").write_text("b.tif\n# none\na.tif\n")
  both = [tmp_path / "a.tif", tmp_path / "b.tif"]
  assert locate.rasters(str(tmp_path), where="x") == both
  assert locate.rasters(f"{tmp_path}/*.tif", where="x") == both
  assert locate.rasters(f"{tmp_path}/list.txt", where="x") == both[::-1]
  assert locate.rasters(f"{tmp_path}/a.tif", where="x") == both[:1]


@pytest.mark.parametrize(
  "path", ["/vsicurl/http://x/a.tif", "https://x/a.tif", "s3://b/a.tif"]
)
def test_remote_paths_are_refused(tmp_path, path):
  with pytest.raises(InputError, match="on this machine, or --allow-remote"):
    locate.rasters(path, where="--input")
  (tmp_path / "l.txt").write_text(path + "\n")
  with pytest.raises(InputError, match="line 1: expected a path on"):
    locate.rasters(str(tmp_path / "l.txt"), where="--input")
  for tag in ("SourceFilename", "SourceDataset"):
    (tmp_path / "r.vrt").write_text(f"<V><B><{tag}>{path}</{tag}></B></V>")
    with pytest.raises(InputError, match="expected a path on this"):
      locate.rasters(str(tmp_path / "r.vrt"), where="--input")


def test_sensors_are_named_or_alone():
  parse = inputs.parse_pairs
  assert parse("--input", ["a.tif"], ["X"]) == {"X": "a.tif"}
  assert parse("--input", ["/d/k=1/a.tif"], ["X"]) == {"X": "/d/k=1/a.tif"}
  assert parse("--input", ["X=a", "Y=b"], ["X", "Y"]) == {"X": "a", "Y": "b"}
  with pytest.raises(InputError, match=r"expected X\|Y=PATH"):
    parse("--input", ["a.tif"], ["X", "Y"])
  with pytest.raises(InputError, match="one of X, Y, the sensors"):
    parse("--input", ["Z=a.tif"], ["X", "Y"])
  with pytest.raises(InputError, match="Z"):
    parse("--input", ["Z=a.tif"], ["X"])
  with pytest.raises(InputError, match="X once"):
    parse("--input", ["X=a.tif", "X=b.tif"], ["X"])
