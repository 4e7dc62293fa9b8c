"""What `flairhub bench` measures, prints and writes."""

import json
import pathlib

import pytest

from flairhub_jax import __main__

TINY = f"--config={pathlib.Path(__file__).parents[1] / 'tiny.py'}"
AERIAL = "--config.data.modalities=('AERIAL_RGBI',)"
SERIES = "--config.data.modalities=('SENTINEL2_TS',)"


@pytest.mark.slow
def test_steps_on_random_patches(tmp_path, capsys):
  code = __main__.main(
    [
      *("bench", "train", TINY, SERIES, "--config.data.path="),
      *("--config.data.batch_size=2", "--steps=3"),
      *("--json", f"{tmp_path}/found.json", "--profile", f"{tmp_path}/trace"),
    ]
  )
  assert code == 0
  actual = json.loads((tmp_path / "found.json").read_text())
  assert len(actual["seconds"]) == 3 and min(actual["seconds"]) > 0
  assert actual["data"] == "random" and actual["batch_size"] == 2
  rate = actual["patches_per_second"] * actual["median_seconds"]
  assert rate == pytest.approx(2)
  assert actual["compile_seconds"] > 0 and actual["bytes_per_device"] > 0
  # Forward and backward of 8 dates of 10 px through the smallest U-TAE.
  assert 1e8 < actual["flops"] < 1e11
  assert any((tmp_path / "trace").rglob("*.xplane.pb"))
  assert "GFLOP per step" in capsys.readouterr().out


@pytest.mark.slow
def test_forward_passes_on_loaded_patches(converted, capsys):
  code = __main__.main(
    [
      *("bench", "forward", TINY, AERIAL, f"--config.data.path={converted}"),
      "--steps=3",
    ]
  )
  assert code == 0
  assert "4 patches, loaded" in capsys.readouterr().out


def test_too_few_steps(capsys):
  assert __main__.main(["bench", "forward", TINY, "--steps=1"]) == 2
  assert "--steps: expected at least 3, found 1" in capsys.readouterr().err


@pytest.mark.slow
def test_whole_maps_against_the_network_alone(tmp_path, capsys):
  code = __main__.main(
    [
      *("bench", "zonal", TINY, AERIAL, "--config.data.batch_size=2"),
      *("--config.inputs.AERIAL_RGBI.pixels=32", "--steps=3"),
      *("--json", f"{tmp_path}/zonal.json"),
    ]
  )
  assert code == 0
  actual = json.loads((tmp_path / "zonal.json").read_text())
  # Two rows of four windows that share eight pixels.
  assert actual["num_windows"] == 8 and actual["map_pixels"] == 56 * 104
  assert actual["window"] == [32, 32] and actual["batch_size"] == 2
  assert len(actual["seconds"]) == len(actual["forward_seconds"]) == 3
  share = actual["windows_per_second"] / actual["forward_windows_per_second"]
  assert actual["share_of_forward"] == pytest.approx(share)
  stages = actual["stage_seconds"]
  assert all(seconds > 0 for seconds in stages.values())
  main = sum(value for stage, value in stages.items() if stage != "reading")
  assert main < max(actual["seconds"])
  assert "8 windows of 32 x 32, batches of 2" in capsys.readouterr().out


def test_traces_are_of_steps(capsys):
  argv = ["bench", "zonal", TINY, AERIAL, "--profile", "x"]
  assert __main__.main(argv) == 2
  assert "--profile: expected bench train or" in capsys.readouterr().err
