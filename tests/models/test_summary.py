"""Parameters, FLOPs and memory that `describe` counts."""

import jax
import numpy as np
import pytest

from flairhub_jax.__main__ import main
from flairhub_jax.configs import benchmark, sweep_modalities
from flairhub_jax.models import build, initialise, summary
from flairhub_jax.weights import reference_only
from tests.models import numbers
from tests.parity import origin


def published(actual, config):
  """Parameters as the reference counts them, without fusion."""
  unused = reference_only.of_config(config)
  of_file = reference_only.count(unused, with_fusion=False)
  return actual.num_parameters_without_fusion + of_file


def test_parts_add_up_to_the_network():
  config = numbers.config_of(numbers.CASES["resnet18-upernet"])
  config.inputs["AERIAL_RGBI"].pixels = 64
  actual = summary.summarise(config, num_dates=4)
  segmenter = build.build_segmenter(config, output_size=(64, 64))
  variables = initialise.init_variables(
    segmenter, build.input_shapes(config), seed=0
  )
  leaves = jax.tree.leaves(variables["params"])
  assert actual.num_parameters == sum(leaf.size for leaf in leaves)
  # Four numbers of four bytes for each.
  assert actual.state_bytes == 16 * actual.num_parameters
  assert published(actual, config) == 14_179_627


def test_operations_are_those_of_the_layers():
  config = numbers.config_of(numbers.CASES["resnet50-unet"])
  config.inputs["AERIAL_RGBI"].pixels = 224
  (encoder, *_) = summary.summarise(config, num_dates=1).parts
  # 4.1e9 multiply-adds (torchvision's table); XLA leaves out those with zeros
  # of the border.
  assert encoder.flops == pytest.approx(2 * 4.1e9, rel=0.05)


@pytest.mark.parametrize("name", ["LC-D__resnet34", "LC-H__series"])
def test_parts_equal_the_references(name):
  manifest = origin.manifest(name)
  config = benchmark.get_config(manifest["name"])
  config.model.encoder, config.model.decoder = manifest["arch"].split("-")
  config.model.auxiliary = tuple(manifest["aux_losses"])
  actual = summary.summarise(config, num_dates=1)
  encoders = {p.name: p.num_parameters for p in actual.parts[:-1] if p.name}
  unused = reference_only.of_config(config)
  for modality, number in manifest["params"]["encoders"].items():
    head = unused["params"].get(f"encoder_{modality}", {})
    assert (
      encoders[modality] + sum(map(np.size, jax.tree.leaves(head))) == number
    )
  total = actual.num_parameters + reference_only.count(unused)
  assert total == manifest["params_total"]
  assert published(actual, config) == manifest["params_printed_by_reference"]


def test_modalities_keep_their_order():
  """That of their names is another, and would put the series first."""
  config = dict(sweep_modalities.get_runs("small"))["LPIS-I/seed-0"]
  actual = {p.role: p for p in summary.summarise(config, num_dates=1).parts}
  assert actual["fusion"].flops > 0


def test_the_command_prints_a_table(capsys):
  argv = ["describe", "--config=configs/benchmark.py:LC-G"]
  assert main([*argv, "--config.inputs.SENTINEL2_TS.num_dates=6"]) == 0
  lines = capsys.readouterr().out.splitlines()
  (row,) = [line for line in lines if line.startswith("SENTINEL2_TS")]
  assert row.split()[1:4] == ["utae", "encoder", "922,105"]
  assert "0.922 M" in "".join(lines) and "6 dates" in "".join(lines)
