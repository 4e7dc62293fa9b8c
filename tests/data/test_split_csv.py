import pytest

from flairhub_jax.data import split_csv
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB

COLUMNS = FLAIR_HUB.columns


def write(tmp_path, text, **options):
  path = tmp_path / "csv" / "TRAIN.csv"
  path.parent.mkdir(exist_ok=True)
  path.write_text(text, **{"encoding": "utf-8", **options})
  return path


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_both_separators_a_byte_order_mark_and_windows_line_ends(
  tmp_path, delimiter, encoding, newline
):
  rows = [
    ["patch_id", "AERIAL_RGBI", "SENTINEL2_MSK-SC", "ALL_LABEL-LPIS"],
    ["D1_0-0", "../a/0.tif", "../m/0.tif", "../l/0.tif"],
    ["D1_0-1", "../a/1.tif", "", "../l/1.tif"],
  ]
  text = "".join(delimiter.join(row) + newline for row in rows) + newline
  path = write(tmp_path, text, encoding=encoding, newline="")
  split = split_csv.read_split(path, COLUMNS)
  assert split.patch_ids == ("D1_0-0", "D1_0-1")
  assert len(split) == 2
  assert list(split.cells) == rows[0][1:]
  assert split.file("AERIAL_RGBI", 1) == f"{tmp_path}/csv/../a/1.tif"
  assert split.file("SENTINEL2_MSK-SC", 1) is None


def test_cells_may_be_quoted_and_padded(tmp_path):
  text = 'patch_id , AERIAL_RGBI\n"p" , "../a, b.tif"\n'
  split = split_csv.read_split(write(tmp_path, text), COLUMNS)
  assert split.patch_ids == ("p",)
  assert split.cells["AERIAL_RGBI"] == ("../a, b.tif",)


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("", ["header", "patch_id"]),
    ("AERIAL_RGBI\na.tif\n", ["column patch_id"]),
    ("patch_id,AERIAL_RGBI\n", ["at least one patch"]),
    ("patch_id,AERIAL_RGB\np,a.tif\n", ["'AERIAL_RGB'", "SPOT_RGBI"]),
    ("patch_id,DEM_ELEV,DEM_ELEV\np,a,b\n", ["'DEM_ELEV'", "twice"]),
    ("patch_id,DEM_ELEV\np,a\np,b\n", ["row 3", "'p'", "row 2"]),
    ("patch_id,DEM_ELEV\np\n", ["row 2", "2 cells", "found 1"]),
    ("patch_id,DEM_ELEV\n../p,a\n", ["row 2", "'../p'"]),
    ("patch_id,DEM_ELEV\n.p,a\n", ["row 2", "'.p'"]),
    ("patch_id,DEM_ELEV\n,a\n", ["row 2", "''"]),
    ("patch_id,DEM_ELEV\na/b,a\n", ["row 2", "'a/b'"]),
    ("patch_id,DEM_ELEV\np,a\0b\n", ["row 2, DEM_ELEV", "'a\\x00b'"]),
    ("patch_id,DEM_ELEV\np\0,a\n", ["row 2, patch_id", "'p\\x00'"]),
    ("patch_id\0,DEM_ELEV\np,a\n", ["header", "'patch_id\\x00'"]),
  ],
)
def test_faults_of_a_file_are_named(tmp_path, text, words):
  path = write(tmp_path, text)
  with pytest.raises(InputError) as caught:
    split_csv.read_split(path, COLUMNS)
  for word in [str(path), *words]:
    assert word in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path):
  with pytest.raises(InputError, match="nowhere"):
    split_csv.read_split(tmp_path / "nowhere.csv", COLUMNS)
  path = tmp_path / "latin.csv"
  path.write_bytes("patch_id,DEM_ELEV\né,a\n".encode("latin-1"))
  with pytest.raises(InputError, match="UTF-8"):
    split_csv.read_split(path, COLUMNS)
  with pytest.raises(InputError, match="readable CSV"):
    split_csv.read_split(tmp_path, COLUMNS)


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", "/home/someone")
  split = split_csv.read_split(
    write(tmp_path, "patch_id,DEM_ELEV\np,~/a\n"), COLUMNS
  )
  assert split.file("DEM_ELEV", 0) == "/home/someone/a"
