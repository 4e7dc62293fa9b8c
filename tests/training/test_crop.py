"""Training on crops, validation and prediction on whole patches."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from flairhub_jax import __main__
from flairhub_jax.models import build, initialise, swin
from tests import tiny
from tests.training import runs


def test_a_run_on_crops_is_validated_on_whole_patches(converted, tmp_path):
  """Though attention windows are smaller on crops."""
  arguments = runs.command(
    converted,
    tmp_path / "run",
    "--config.data.augment=('crop','symmetry')",
    "--config.data.modalities=('AERIAL_RGBI',)",
    "--config.data.tasks=('AERIAL_LABEL-COSIA',)",
    "--config.data.augmentation.crop.fraction=0.25",
    "--config.train.num_steps=2",
    "--config.train.validation_maps=0",
  )[3:]
  assert __main__.main(arguments) == 0
  lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  kinds = [json.loads(line)["kind"] for line in lines]
  assert kinds.count("train") == 2 and kinds.count("valid") == 1


def test_parameters_are_those_of_whole_patches():
  """A smaller window has the biases of the larger one between its pixels."""
  config = tiny.get_config()
  config.data.modalities = ("AERIAL_RGBI",)
  network = build.build_segmenter(config, output_size=(16, 16))
  shape = jax.ShapeDtypeStruct((2, 64, 64, 4), jnp.uint8)
  whole = initialise.init_variables(
    network, {"inputs": {"AERIAL_RGBI": shape}}, seed=0
  )
  rng = np.random.default_rng(0)
  image = rng.integers(0, 255, (2, 16, 16, 4)).astype(np.uint8)
  batch = {"inputs": {"AERIAL_RGBI": image}}
  own = initialise.init_variables(network, batch, seed=0)
  shapes = [jax.tree.map(np.shape, x) for x in (whole, own)]
  assert shapes[0] != shapes[1]

  def cut(table, other):
    if table.shape == other.shape:
      return table
    # Differences of rows and columns between -(w - 1) and w - 1.
    old, new = round(len(table) ** 0.5), round(len(other) ** 0.5)
    margin = (old - new) // 2
    square = table.reshape(old, old, -1)
    inner = square[margin : margin + new, margin : margin + new]
    return inner.reshape(new * new, -1)

  apply = jax.jit(network.apply)
  expected = apply(jax.tree.map(cut, whole, own), batch)["logits"]
  actual = apply(whole, batch)["logits"]
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_the_central_part_of_a_table_has_the_same_relative_positions():
  large, small = (5, 5), (3, 2)
  table = np.random.default_rng(0).normal(size=(81, 2)).astype(np.float32)
  bias = table[swin.relative_position_index(large)].reshape(5, 5, 5, 5, 2)
  part = np.asarray(swin.central_part(jnp.asarray(table), small))
  actual = part[swin.relative_position_index(small)].reshape(3, 2, 3, 2, 2)
  np.testing.assert_array_equal(actual, bias[:3, :2, :3, :2])
