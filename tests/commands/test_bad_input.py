"""Every invalid input gives one clear line and exit code 2."""

import shutil

import pytest

from flairhub_jax import __main__

TINY = "--config=tests/tiny.py"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, pytestconfig):
  monkeypatch.chdir(pytestconfig.rootpath)


def error_line(capsys, *argv):
  assert __main__.main([str(word) for word in argv]) == 2
  captured = capsys.readouterr()
  lines = [
    line for line in captured.err.splitlines() if line.startswith("flairhub")
  ]
  assert len(lines) == 1, captured.err
  assert "Traceback" not in captured.err
  return lines[0]


def refusal(capsys, data, tmp_path, *overrides):
  """The error line of `train` on these data."""
  return error_line(
    capsys,
    "train",
    TINY,
    f"--workdir={tmp_path / 'run'}",
    f"--config.data.path={data}",
    *overrides,
  )


@pytest.fixture
def published(simulated, tmp_path):
  """A copy of the simulated data that a test may damage."""
  folder = tmp_path / "raw"
  shutil.copytree(simulated, folder)
  return folder


def convert(capsys, published, tmp_path):
  csv = published / "csv" / "FLAIR-HUB_SIMULATED_TRAIN.csv"
  out = tmp_path / "records"
  assert (
    __main__.main(
      ["convert", "--train", str(csv), "--out", str(out), "--workers", "0"]
    )
    == 2
  )
  assert not (out / "dataset.json").exists()
  errors = capsys.readouterr().err
  assert "Traceback" not in errors
  return errors


def first_file(published, name):
  csv = published / "csv" / "FLAIR-HUB_SIMULATED_TRAIN.csv"
  header, row = (line.split(",") for line in csv.read_text().split("\n")[:2])
  return csv.parent / row[header.index(name)]


def test_a_misspelt_field(capsys, converted, tmp_path):
  line = error_line(
    capsys,
    "train",
    TINY,
    f"--workdir={tmp_path / 'run'}",
    "--config.optim.learning_rat=1",
  )
  assert "learning_rat" in line and "learning_rate" in line


def test_an_unknown_modality(capsys, converted, tmp_path):
  line = refusal(
    capsys,
    converted,
    tmp_path,
    "--config.data.modalities=('AERIAL_RGBI','LIDAR')",
  )
  assert "LIDAR" in line and "DEM_ELEV" in line
  assert not (tmp_path / "run").exists()


def test_a_modality_missing_from_the_data(capsys, converted, tmp_path):
  line = refusal(
    capsys,
    converted,
    tmp_path,
    "--config.data.modalities=('AERIAL_RGBI','SPOT_RGBI')",
  )
  assert "SPOT_RGBI" in line


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("--config.data.batch_size=3", "a multiple of 2 (2 devices), found 3"),
    ("--config.data.batch_size=0", "a whole number from 1 to 1048576, found 0"),
    ("--config.train.accumulation=3", "6 (2 devices x 3 parts each), found 4"),
    ("--config.mesh.data=3", "2, the number of devices"),
    ("--config.mesh.fsdp=-1", "-1 x -1"),
    ("--config.optim.name=adagrad", "adamw"),
    ("--config.dtype=float8", "bfloat16"),
    ("--config.model.encoder=resnet9", "resnet9"),
    ("--config.fusion.kind=mid_magic", "mid_magic"),
    ("--config.data.tasks=('COSIA',)", "AERIAL_LABEL-COSIA"),
    ("--config.train.best_metric=accuracy", "AERIAL_LABEL-COSIA/miou"),
    ("--config.train.best_metric=AERIAL_LABEL-COSIA/iou/mixed", "scored"),
    (
      "--config.train.validate_epochs=0",
      "validate_epochs: expected a whole number from 1",
    ),
    ("--config.optim.learning_rate=nan", "nan"),
    ("--config.inputs.AERIAL_RGBI.bands=('R','UV')", "UV"),
    ("--config.seed=-1", "config.seed: expected a whole number from 0"),
    ("--config.model.utae.num_heads=3", "a network that can be built"),
    (
      "--config.tasks.AERIAL_LABEL-COSIA.class_weights=(1.0,)",
      "19 numbers, one per class",
    ),
    ("--config.data.reference_date=0515", "month-day"),
    (
      "--config.data.modalities=('DEM_ELEV',)",
      "config.data.modalities: expected one that split train of ",
    ),
  ],
)
def test_invalid_value(capsys, converted, tmp_path, override, message):
  line = refusal(capsys, converted, tmp_path, override)
  assert message in line
  assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written(capsys, converted, tmp_path):
  (tmp_path / "file").touch()
  arguments = ("train", TINY, f"--workdir={tmp_path / 'file' / 'run'}")
  code = __main__.main([*arguments, f"--config.data.path={converted}"])
  message = capsys.readouterr().err.splitlines()
  assert code == 1 and len(message) == 1
  assert message[0].startswith("flairhub train: ") and "file" in message[0]


def test_missing_data_set(capsys, tmp_path):
  line = error_line(
    capsys,
    "train",
    TINY,
    f"--workdir={tmp_path / 'run'}",
    f"--config.data.path={tmp_path}",
  )
  assert str(tmp_path) in line and "convert" in line


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_folder_that_is_not_a_run(capsys, tmp_path, command):
  extra = ["--out", tmp_path / "maps"] if command == "predict" else []
  line = error_line(capsys, command, "--run", tmp_path, *extra)
  assert "config.json" in line


def test_a_csv_that_names_a_missing_file(capsys, published, tmp_path):
  path = first_file(published, "AERIAL_RGBI")
  path.unlink()
  errors = convert(capsys, published, tmp_path)
  assert path.name in errors


def test_a_truncated_tiff(capsys, published, tmp_path):
  path = first_file(published, "SENTINEL2_TS")
  path.write_bytes(path.read_bytes()[:3000])
  errors = convert(capsys, published, tmp_path)
  assert path.name in errors


def test_a_geopackage_without_the_patch(capsys, published, tmp_path):
  folder = published / "GLOBAL_ALL_MTD"
  path = folder / "GLOBAL_SENTINEL2_MTD_DATES.gpkg"
  # Dates of one region only, as in the GeoPackage of another data set.
  import pyogrio.raw

  meta, _, geometry, fields = pyogrio.raw.read(path)
  path.unlink()
  pyogrio.raw.write(
    path,
    geometry[:1],
    [field[:1] for field in fields],
    meta["fields"],
    geometry_type="Polygon",
    crs=meta["crs"],
  )
  errors = convert(capsys, published, tmp_path)
  assert path.name in errors and "_S1-" not in errors.split(path.name)[0]


def test_a_label_outside_the_table(capsys, published, tmp_path):
  import rasterio

  path = first_file(published, "AERIAL_LABEL-COSIA")
  with rasterio.open(path, "r+") as raster:
    values = raster.read()
    values[0, 0, 0] = 37
    raster.write(values)
  errors = convert(capsys, published, tmp_path)
  assert path.name in errors and "37" in errors


def test_an_unknown_command_and_a_surplus_flag(capsys):
  for argv in (["fly"], ["simulate", "--out", "x", "--patchs", "3"]):
    with pytest.raises(SystemExit) as caught:
      __main__.main(argv)
    assert caught.value.code == 2
