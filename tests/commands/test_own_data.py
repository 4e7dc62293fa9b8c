"""The whole way of a user's own data: derive, edit, convert, train, predict."""

import json
import re

import numpy as np
import pytest
import rasterio

import flairhub_jax
from flairhub_jax import configuration
from tests.commands.command_line import call

NETWORK = (
  "--config.model.utae.num_heads=4",
  "--config.train.num_steps=3",
  "--config.train.validate_every=3",
  "--config.train.validation_maps=0",
  "--config.data.batch_size=2",
)
COLOURS = {"water": "#0000ff", "forest": "#00ff00"}


def write(path, values):
  count, height, width = values.shape
  with rasterio.open(
    path, "w", driver="GTiff", dtype=values.dtype, count=count, height=height,
    width=width, crs="EPSG:32631",
    transform=rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000),
  ) as raster:  # fmt: skip
    raster.write(values)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
  """RGB of 64 pixels whose blue band tells the two classes apart."""
  folder = tmp_path_factory.mktemp("own")
  rng = np.random.default_rng(0)
  rows = ["patch_id,ORTHO,COVER"]
  for i in range(4):
    cover = np.repeat(rng.integers(0, 2, (1, 8, 8)), 8, 1).repeat(8, 2)
    image = rng.integers(50, 100, (3, 64, 64))
    image[2] += 100 * cover[0]
    write(folder / f"{i}_image.tif", image.astype(np.uint8))
    write(folder / f"{i}_cover.tif", np.where(cover, 7, 40).astype(np.int16))
    rows.append(f"tile-{i},{i}_image.tif,{i}_cover.tif")
  (folder / "tiles.csv").write_text("\n".join(rows))
  return folder


@pytest.fixture(scope="module")
def schema(own):
  """The derived schema, with the names of classes edited."""
  from flairhub_jax import __main__

  path = own / "schema.toml"
  argv = ["schema", "--from-csv", own / "tiles.csv", "--out", path]
  assert __main__.main(list(map(str, argv))) == 0
  text = path.read_text()
  for old, new in (("class 7", "water"), ("class 40", "forest")):
    assert old in text
    text = re.sub(
      rf'name = "{old}", colour = "#\w+"',
      f'name = "{new}", colour = "{COLOURS[new]}"',
      text,
    )
  path.write_text(text)
  return path


@pytest.fixture(scope="module")
def trained(own, schema):
  from flairhub_jax import __main__

  argv = ["convert", "--schema", schema, "--out", own / "records"]
  for split in ("train", "valid", "test"):
    argv += [f"--{split}", own / "tiles.csv"]
  argv += ["--workers", "0"]
  assert __main__.main(list(map(str, argv))) == 0
  argv = ["train", "--config=own_data", "--workdir", own / "run"]
  argv += [f"--config.data.path={own / 'records'}", *NETWORK]
  assert __main__.main(list(map(str, argv))) == 0
  return own / "run"


def test_the_schema_travels_from_the_files_to_the_run(own, trained):
  content = json.loads((own / "records/dataset.json").read_text())
  config = configuration.load_json(trained / "config.json")
  assert content["schema_version"] == 2
  assert config.data.modalities == ("ORTHO",)
  assert config.data.tasks == ("COVER",)
  assert config.schema.tasks["COVER"].class_names == ("water", "forest")
  assert config.inputs.ORTHO.pixels == 64
  assert set(config.inputs.ORTHO.mean.to_dict()) == {"R", "G", "B"}


def test_scores_and_maps_have_the_classes_of_the_schema(
  own, trained, tmp_path, capsys
):
  table = call(capsys, "evaluate", "--run", trained)
  assert "water" in table and "forest" in table
  call(capsys, "predict", "--run", trained, "--out", tmp_path / "maps")
  path = next((tmp_path / "maps").rglob("*.tif"))
  with rasterio.open(path) as raster:
    assert raster.crs.to_epsg() == 32631
    assert set(np.unique(raster.read(1))) <= {0, 1}
    assert raster.colormap(1)[0][:3] == (0, 0, 255)
    assert raster.colormap(1)[1][:3] == (0, 255, 0)


def test_a_notebook_reads_the_sensor_as_stored(own, trained):
  model = flairhub_jax.load_model(trained)
  image = np.zeros((1, 64, 64, 3), np.uint8)
  logits = model.apply({"inputs": {"ORTHO": image}})["logits"]["COVER"]
  assert logits.shape == (1, 64, 64, 2)


def test_bands_of_an_own_sensor_are_chosen_on_the_command_line(
  own, trained, capsys
):
  text = call(
    capsys,
    "describe",
    "--config=own_data",
    f"--config.data.path={own / 'records'}",
    "--config.inputs.ORTHO.bands=('B','R')",
  )
  assert "ORTHO" in text
  line = call(
    capsys,
    "describe",
    "--config=own_data",
    f"--config.data.path={own / 'records'}",
    "--config.inputs.ORTHO.bands=('NIR',)",
    code=2,
  )
  assert (
    "config.inputs.ORTHO.bands: expected any of R, G, B, found 'NIR'" in line
  )


def test_data_of_another_band_order_are_refused(own, schema, trained, capsys):
  other = own / "bgr.toml"
  text = schema.read_text().replace('["R", "G", "B"]', '["B", "G", "R"]')
  other.write_text(text)
  argv = ["--schema", other, "--test", own / "tiles.csv", "--workers", "0"]
  call(capsys, "convert", *argv, "--out", own / "bgr")
  for command in ("evaluate", "predict"):
    options = ["--out", own / "maps_bgr"] if command == "predict" else []
    line = call(
      capsys, command, "--run", trained, "--data", own / "bgr", *options, code=2
    )
    assert (
      "sensor ORTHO, bands: expected R, G, B, as the run has, found B, G, R"
      in line
    )
  assert not (own / "maps_bgr").exists()


def test_a_label_value_without_a_class_is_counted(own, schema, capsys):
  other = own / "one_class.toml"
  lines = [
    line for line in schema.read_text().splitlines() if "forest" not in line
  ]
  other.write_text("\n".join(lines))
  argv = ["--schema", other, "--train", own / "tiles.csv", "--workers", "0"]
  line = call(capsys, "convert", *argv, "--out", own / "one", code=2)
  assert "40" in line and "4 patches" in line and "0_cover.tif" in line


def test_training_starts_from_a_run_of_other_classes(
  own, schema, trained, capsys
):
  """Other ids and one class more: named in the log, weights taken by name."""
  other = own / "other.toml"
  text = schema.read_text().replace('id = "ORTHO"', 'id = "PHOTO"')
  text = text.replace('id = "COVER"', 'id = "LAND"')
  text = text.replace('name = "forest"', 'name = "wood"')
  other.write_text(text)
  csv = own / "other.csv"
  csv.write_text(
    (own / "tiles.csv").read_text().replace("ORTHO,COVER", "PHOTO,LAND")
  )
  argv = ["--schema", other, "--train", csv, "--workers", "0"]
  call(capsys, "convert", *argv, "--out", own / "other")
  start = [
    "train",
    "--config=own_data",
    f"--config.data.path={own / 'other'}",
    f"--config.train.init_from={trained}",
    *NETWORK,
  ]
  line = call(capsys, *start, f"--workdir={own / 'no'}", code=2)
  assert "start of PHOTO, LAND: expected a sensor or task in common" in line
  names = "--config.train.init_names=('PHOTO=ORTHO','LAND=COVER')"
  call(capsys, *start, names, f"--workdir={own / 'tuned'}")
  log = (own / "tuned/log.txt").read_text()
  assert "classes initialised: LAND: wood" in log
  for wrong, text in (
    ("('PHOTO=RGB',)", "PHOTO=OLD, OLD of ORTHO"),
    ("('RGB=ORTHO',)", "NEW=OLD, NEW of PHOTO, LAND"),
    ("('PHOTO=ORTHO','PHOTO=ORTHO')", "each id once"),
  ):
    flag = f"--config.train.init_names={wrong}"
    line = call(capsys, *start, flag, f"--workdir={own / 'no'}", code=2)
    assert f"config.train.init_names: expected {text}" in line
  assert not (own / "no").exists()
