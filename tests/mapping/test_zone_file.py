"""Options of a map in a YAML file, ours or the reference's."""

import argparse

import pytest
import yaml

from flairhub_jax.commands import zonal
from flairhub_jax.configs import base
from flairhub_jax.errors import InputError
from flairhub_jax.mapping import reference_zone, zone_file
from tests.mapping import regions

COSIA = regions.COSIA


def parser():
  own = argparse.ArgumentParser()
  zonal.add_arguments(own)
  return own


def merged(folder, content, *words):
  """Options of a command line and a file in a folder."""
  own = parser()
  return zone_file.merge(
    own.parse_args(list(words)), content, own, where=folder / "zone.yaml"
  )


def test_every_kind_of_option_is_read(tmp_path):
  args = merged(
    tmp_path,
    {
      "run": "run",
      "out": "/maps/m.tif",
      "input": {"A": "a.tif", "B": "s3://b/b.tif"},
      "dates": ["B=d.txt"],
      "bands": {"A": [4, 1, 2]},
      "scale": {"A": 0.5, "B": [1, -1000]},
      "assume_gsd": ["B"],
      "bounds": [1, 2.5, 3, 4],
      "resolution": 1,
      "window": 64,
      "tta": True,
      "probabilities": "water",
      "min_area": [200, "water=50.5"],
      "aoi": None,
    },
  )
  assert args.run == [str(tmp_path / "run")] and args.out == "/maps/m.tif"
  assert args.input == [f"A={tmp_path / 'a.tif'}", "B=s3://b/b.tif"]
  assert args.dates == [f"B={tmp_path / 'd.txt'}"]
  assert args.bands == ["A=4,1,2"] and args.scale == ["A=0.5", "B=1,-1000"]
  assert args.assume_gsd == ["B"] and args.bounds == [1, 2.5, 3, 4]
  assert args.resolution == 1.0 and args.window == 64 and args.tta
  assert args.min_area == ["200", "water=50.5"]
  assert (
    args.probabilities == ["water"]
    and args.overlap is None
    and args.aoi is None
  )


def test_the_command_line_counts(tmp_path):
  content = {
    "input": {"A": "a.tif", "B": "b.tif"},
    "window": 64,
    "overlap": 16,
    "margin": 8,
    "out": "m.tif",
  }
  args = merged(
    tmp_path, content, "--input", "A=x.tif", "--window", "32", "--overlap", "0"
  )
  assert args.input == ["A=x.tif", f"B={tmp_path / 'b.tif'}"]
  assert (args.window, args.overlap, args.margin) == (32, 0, None)
  assert merged(tmp_path, {"input": "a.tif"}, "--input", "x").input == ["x"]
  with pytest.raises(InputError, match="expected one of overlap and margin"):
    merged(tmp_path, content)


@pytest.mark.parametrize(
  ("content", "text"),
  [
    ({"windw": 64}, "expected a key of run, out, input"),
    ({"window": "64"}, "window: expected a whole number, found '64'"),
    ({"window": True}, "window: expected a whole number, found True"),
    ({"tta": "yes"}, "tta: expected true or false"),
    ({"bounds": [1, 2]}, "bounds: expected a list of 4"),
    ({"input": {"A": {"path": "a"}}}, "input.A: expected text"),
    ({"out": 3}, "out: expected text, found 3"),
    ({"config": "other.yaml"}, "expected a key of run"),
  ],
)
def test_wrong_options_are_one_line(tmp_path, content, text):
  with pytest.raises(InputError) as error:
    merged(tmp_path, content)
  line = str(error.value)
  assert line.startswith(f"{tmp_path / 'zone.yaml'}") and text in line
  assert "\n" not in line


@pytest.fixture
def config():
  config = base.get_config()
  config.data.modalities = ("AERIAL_RGBI", "SENTINEL2_TS")
  config.data.tasks = (COSIA,)
  config.model.encoder, config.model.decoder = "swin_tiny", "upernet"
  return config.lock()


@pytest.fixture
def document(config):
  """A file of the reference, for the run of `config`."""
  names = config.schema.tasks[COSIA].class_names
  return {
    "output_path": "results/",
    "output_name": "town",
    "write_dataframe": False,
    "output_type": "argmax",
    "cog_conversion": True,
    "model_weights": "weights.safetensors",
    "use_gpu": True,
    "batch_size": 2,
    "num_worker": 10,
    "img_pixels_detection": 512,
    "margin": 128,
    "output_px_meters": 0.2,
    "monotemp_arch": "swin_tiny-upernet",
    "multitemp_model_ref_date": "05-15",
    "modalities": {
      "inputs": {
        "AERIAL_RGBI": True,
        "SPOT_RGBI": False,
        "SENTINEL2_TS": True,
      },
      "AERIAL_RGBI": {
        "input_img_path": "aerial.tif",
        "channels": [4, 1, 2],
        "normalization": {
          "type": "custom",
          "means": [106.59, 105.66, 111.35],
          "stds": [39.78, 52.23, 45.62],
        },
      },
      "SPOT_RGBI": {"input_img_path": "/path/to/input_image.tif"},
      "SENTINEL2_TS": {
        "input_img_path": "s2.tif",
        "channels": list(range(1, 11)),
        "dates_txt": "dates.txt",
        "filter_clouds": True,
        "filter_clouds_img_path": "mask.tif",
        "temporal_average": False,
      },
    },
    "tasks": [
      {"name": COSIA, "active": True, "class_names": dict(enumerate(names))},
      {"name": "ALL_LABEL-LPIS", "active": False, "class_names": {0: "a"}},
    ],
  }


def translated(document, config, folder):
  # Numbers of classes are numbers in YAML, too.
  content = yaml.safe_load(yaml.safe_dump(document))
  return reference_zone.translate(content, config, where=folder / "r.yaml")


def test_a_file_of_the_reference_becomes_options(document, config, tmp_path):
  options, notes = translated(document, config, tmp_path)
  args = merged(tmp_path, options, "--run", "run")
  assert args.out == str(tmp_path / "results" / "town.tif")
  paths = {"AERIAL_RGBI": "aerial.tif", "SENTINEL2_TS": "s2.tif"}
  assert args.input == [f"{k}={tmp_path / v}" for k, v in paths.items()]
  assert args.dates == [f"SENTINEL2_TS={tmp_path / 'dates.txt'}"]
  assert args.mask == [f"SENTINEL2_TS={tmp_path / 'mask.tif'}"]
  assert args.bands == [] and args.probabilities == []
  assert (args.window, args.margin, args.batch) == (512, 128, 2)
  assert args.resolution == 0.2
  assert args.assume_gsd == ["AERIAL_RGBI", "SENTINEL2_TS"]
  assert len(notes) == 2
  assert "model_weights: ignored" in notes[0]
  assert "keep their pixels" in notes[1]


def test_channels_become_bands(document, config, tmp_path):
  # A file of near infrared, red and green alone.
  document["modalities"]["AERIAL_RGBI"]["channels"] = [1, 2, 3]
  options, _ = translated(document, config, tmp_path)
  assert options["bands"] == {"AERIAL_RGBI": [2, 3, 3, 1]}


def test_what_differs_is_explained(document, config, tmp_path):
  document["output_type"] = "class_prob"
  document["use_gpu"] = False
  aerial = document["modalities"]["AERIAL_RGBI"]
  aerial["normalization"]["means"] = [1.0, 2.0, 3.0]
  document["modalities"]["SENTINEL2_TS"]["temporal_average"] = "monthly"
  options, notes = translated(document, config, tmp_path)
  assert options["probabilities"] == ["all"]
  for text in (
    "use_gpu: ignored",
    "output_type: class_prob adds",
    "normalization.means: [1.0, 2.0, 3.0] are not those of the run",
    "temporal_average: ignored; the run has none",
  ):
    assert sum(text in line for line in notes) == 1


def test_class_tables_shifted_by_one_are_refused(document, config, tmp_path):
  names = config.schema.tasks[COSIA].class_names
  for shifted in (
    dict(enumerate(names, 1)),
    dict(enumerate((*names[1:], names[0]))),
  ):
    document["tasks"][0]["class_names"] = shifted
    with pytest.raises(InputError, match=f"tasks.{COSIA}.class_names"):
      translated(document, config, tmp_path)


@pytest.mark.parametrize(
  ("change", "text"),
  [
    ({"marginn": 1}, "marginn"),
    ({"margin": "128"}, "margin: expected"),
    ({"monotemp_arch": "swin_base-upernet"}, "swin_tiny-upernet, as the run"),
    ({"multitemp_model_ref_date": "01-01"}, "expected 05-15, as the run has"),
    ({"tasks": []}, f"the tasks of the run active, {COSIA}"),
  ],
)
def test_contradictions_to_the_run_are_refused(
  document, config, tmp_path, change, text
):
  with pytest.raises(InputError) as error:
    translated({**document, **change}, config, tmp_path)
  assert text in str(error.value) and "\n" not in str(error.value)


def test_sensors_without_a_raster_or_a_place_are_refused(
  document, config, tmp_path
):
  del document["modalities"]["SENTINEL2_TS"]
  with pytest.raises(InputError, match=r"SENTINEL2_TS.input_img_path"):
    translated(document, config, tmp_path)
  document["modalities"]["inputs"] = {"SPOT_RGBI": True}
  with pytest.raises(InputError, match="sensors of the run, AERIAL_RGBI"):
    translated(document, config, tmp_path)
