"""What a run expects of rasters, printed and stored."""

import dataclasses
import json

import numpy as np
import pytest

from flairhub_jax import contract, run_directory
from flairhub_jax.configs import quickstart
from flairhub_jax.data import records
from tests.commands.command_line import call

NAMES = ("AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS")


@pytest.fixture(scope="module")
def config():
  config = quickstart.get_config()
  config.data.modalities = NAMES
  return config.lock()


@pytest.fixture(scope="module")
def own(config):
  return contract.build(config)


def test_channels_are_those_of_the_network(own):
  aerial, elevation, series = (own.sensors[name] for name in NAMES)
  assert aerial.bands == ("R", "G", "B", "NIR") and aerial.dtype == "uint8"
  assert [each.band for each in aerial.channels] == ["NIR", "R", "G"]
  assert (aerial.channels[1].mean, aerial.channels[1].std) == (105.66, 52.23)
  assert aerial.statistics["B"].mean == 102.18
  assert elevation.channels[1].difference == ("DSM", "DTM")
  assert (series.channels[3].mean, series.channels[3].std) == (0, 1)
  assert not series.statistics
  assert series.series.quality_mask == ("snow", "cloud")
  assert series.series.reference_date == "05-15"


def test_classes_are_those_of_the_map(config):
  config = config.copy_and_resolve_references()
  task = config.data.tasks[0]
  with config.unlocked():
    classes = config.schema.tasks[task].class_names
    config.tasks[task].merge = {"built": classes[:2], "other": classes[2:]}
  row = contract.build(config).tasks[task]
  assert row.classes == ("built", "other") and len(row.colours) == 2


def test_training_data_add_statistics_and_months(config, converted):
  dataset = records.load_dataset(converted)
  own = contract.build(config, dataset)
  info = dataset.modalities["AERIAL_RGBI"].statistics["R"]
  assert own.sensors["AERIAL_RGBI"].statistics["R"].max == info["max"]
  stream = dataset.open_stream("train", "SENTINEL2_TS")
  days = np.concatenate([stream[i]["dates"] for i in range(len(stream))])
  dates = days.astype("datetime64[D]").astype(str)
  months = sorted({int(date[5:7]) for date in dates})
  assert own.sensors["SENTINEL2_TS"].series.months == tuple(months)


def test_other_data_at_the_path_of_the_run_are_not_used(config, converted):
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.data.path = str(converted)
    config.data.fingerprint = "0" * 64
  assert contract.training_data(config) is None
  with config.unlocked():
    config.data.fingerprint = records.load_dataset(converted).fingerprint
  assert contract.training_data(config) is not None


def test_a_run_prints_its_contract(config, own, tmp_path, capsys):
  run = run_directory.start_or_continue(tmp_path / "run", config)
  text = call(capsys, "contract", run.path)
  assert "1       R                105.66  52.23          2" in text
  assert "3       B                102.18   44.3   not read" in text
  assert "(DSM - DTM - 311.06) / 537.55" in text
  assert "quality mask optional, per date: snow, cloud" in text
  assert "6        water                  #1553ae" in text
  printed = json.loads(call(capsys, "contract", run.path, "--json"))
  assert printed == json.loads(json.dumps(own.to_json()))
  line = call(capsys, "contract", tmp_path / "none", code=2)
  assert "expected a run directory" in line


def test_data_far_from_the_training_are_named(config, converted):
  dataset = records.load_dataset(converted)
  own = contract.build(config, dataset)
  assert not contract.unlikely_data(own, dataset)
  row = own.sensors["AERIAL_RGBI"]
  bright = {
    band: dataclasses.replace(known, mean=known.mean + 3.1 * known.std)
    for band, known in row.statistics.items()
  }
  row = dataclasses.replace(row, statistics=bright)
  other = dataclasses.replace(own, sensors={**own.sensors, row.id: row})
  (line,) = contract.unlikely_data(other, dataset)
  assert line.startswith("AERIAL_RGBI: means far from the training's")
  assert "R -3.1, G -3.1, B -3.1, NIR -3.1" in line
