"""Names, shapes and layouts of the reference's files."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from flairhub_jax import errors
from flairhub_jax.configs import base
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build, swin
from flairhub_jax.weights import reference, reference_only
from tests.parity import origin as numbers


def config_of(manifest: dict) -> ml_collections.ConfigDict:
  config = base.get_config()
  encoder, decoder = manifest["arch"].split("-")
  config.model.encoder, config.model.decoder = encoder, decoder
  config.data.modalities = tuple(manifest["modalities"])
  config.data.tasks = tuple(manifest["labels"])
  config.model.auxiliary = tuple(manifest["aux_losses"])
  return config


def batch_of(sizes: dict[str, int]) -> dict:
  batch = {"inputs": {}, "dates": {}, "valid": {}}
  for modality, side in sizes.items():
    row = FLAIR_HUB.sensors[modality]
    shape = (1, side, side, len(row.bands))
    if row.is_series:
      shape = (1, 2, *shape[1:])
      batch["dates"][modality] = np.zeros((1, 2), np.int32)
      batch["valid"][modality] = np.ones((1, 2), bool)
    batch["inputs"][modality] = np.zeros(shape, row.dtype)
  return batch


@functools.cache
def encoder_shape(name: str, side: int, channels: int) -> tuple:
  """Maps and variables of an image encoder; tracing one takes a second."""
  x = jnp.zeros((1, side, side, channels))
  encoder = build.ENCODERS[name](parent=None)
  return jax.eval_shape(
    lambda k: encoder.init_with_output(k, x, False), jax.random.key(0)
  )


def shape_of(manifest: dict) -> tuple[dict, dict]:
  """Variables of a manifest's network, and those of its file alone.

  Each kind of encoder is traced once.

  The encoders are left out of the network and put back into its tree.
  """
  config, sizes = config_of(manifest), manifest["img_input_sizes"]
  segmenter = build.build_segmenter(config, output_size=(512, 512))

  def maps_alone():
    def encoder(x, train):
      del train
      name, side, channels = config.model.encoder, x.shape[1], x.shape[-1]
      maps, _ = encoder_shape(name, side, channels)
      return [jnp.zeros((1, *y.shape[1:])) for y in maps]

    return encoder

  strategy = segmenter.strategy.clone(image_encoder=maps_alone)
  segmenter = segmenter.clone(strategy=strategy)
  shape = build.variables_shape(segmenter, batch_of(sizes))
  for spec in segmenter.inputs:
    if not spec.is_series:
      _, encoder = encoder_shape(
        config.model.encoder, sizes[spec.modality], len(spec.bands)
      )
      for collection, tree in encoder.items():
        shape[collection][f"encoder_{spec.modality}"] = tree
  unused = reference_only.describe(segmenter, batch_of(sizes))
  return shape, reference_only.shape_of(unused)


@pytest.mark.parametrize("name", numbers.MANIFESTS)
def test_every_key_of_a_manifest_has_its_place(name):
  manifest = numbers.manifest(name)
  expected = {
    key.removeprefix("model."): (tuple(shape), dtype)
    for key, shape, dtype in manifest["keys"]
    if not key.startswith("criterion.")
  }
  actual = {}
  shape = shape_of(manifest)
  leaves, _ = jax.tree_util.tree_flatten_with_path(shape)
  for path, leaf in leaves:
    key, kind = reference.reference_key("/".join(p.key for p in path[2:]))
    assert key not in actual
    dtype = "int64" if leaf.dtype == jnp.int32 else leaf.dtype.name
    actual[key] = reference.torch_shape(leaf.shape, kind), dtype
  assert actual == expected
  parameters = jax.tree.leaves([tree["params"] for tree in shape if tree])
  assert sum(leaf.size for leaf in parameters) == manifest["params_total"]


@pytest.fixture(scope="module")
def variables():
  """A small network of an image, a series and auxiliary decoders."""
  config = base.get_config()
  config.model.encoder, config.model.decoder = "swin_nano", "upernet_nano"
  config.data.modalities = ("AERIAL_RGBI", "SENTINEL2_TS")
  config.model.auxiliary = config.data.modalities
  segmenter = build.build_segmenter(config, output_size=(64, 64))
  batch = batch_of({"AERIAL_RGBI": 64, "SENTINEL2_TS": 10})
  shape = jax.eval_shape(segmenter.init, jax.random.key(0), batch)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: (100 * rng.standard_normal(leaf.shape)).astype(leaf.dtype),
    shape,
  )


@pytest.mark.parametrize("prefix", ["", "model."])
def test_weights_survive_the_way_there_and_back(variables, prefix):
  tensors = reference.to_reference(variables, prefix=prefix)
  assert all(key.startswith(prefix) for key in tensors)
  tensors["criterion.AERIAL_LABEL-COSIA.weight"] = np.ones(19)
  back = reference.from_reference(tensors, variables)
  jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_tensors_have_types_and_layouts_of_pytorch(variables):
  tensors = reference.to_reference(variables)
  for key, tensor in tensors.items():
    counter = key.endswith("num_batches_tracked")
    assert tensor.dtype == (np.int64 if counter else np.float32)
    assert tensor.flags["C_CONTIGUOUS"]
  head = tensors[
    "main_decoders.AERIAL_LABEL-COSIA.seg_model.segmentation_head.0.weight"
  ]
  assert head.shape == (19, 32, 1, 1)
  query = variables["params"]["encoder_SENTINEL2_TS"]["temporal"]["query"]
  np.testing.assert_array_equal(
    tensors["encoders.SENTINEL2_TS.temporal_encoder.attention_heads.Q"], query
  )


def test_all_that_does_not_fit_is_one_error(variables):
  tensors = reference.to_reference(variables)
  missing = "fusion_handler.conv_f.0.bias"
  misshaped = "fusion_handler.conv_f.1.weight"
  del tensors[missing]
  tensors[misshaped] = tensors[misshaped][:, :-1]
  tensors["surplus.weight"] = np.zeros(3)
  with pytest.raises(errors.InputErrors) as error:
    reference.from_reference(tensors, variables, where="file.safetensors")
  assert len(error.value.problems) == 3
  text = str(error.value)
  assert missing in text and misshaped in text and "surplus.weight" in text
  assert text.count("file.safetensors") == 3


def test_bias_tables_are_resized_only_on_request(variables):
  tensors = reference.to_reference(variables)
  key = (
    "encoders.AERIAL_RGBI.seg_model.model.layers_0.blocks.0.attn"
    ".relative_position_bias_table"
  )
  tensors[key] = np.ones((23 * 23, tensors[key].shape[1]), np.float32)
  with pytest.raises(errors.InputErrors):
    reference.from_reference(tensors, variables)
  resized = reference.from_reference(
    tensors, variables, resize_bias_tables=True
  )
  table = resized["params"]["encoder_AERIAL_RGBI"]["stage_0_block_0"]
  np.testing.assert_allclose(table["attention"]["bias_table"], 1.0, rtol=1e-6)


@pytest.mark.parametrize("side", [7, 15, 23])
def test_bias_tables_are_resized_as_in_the_reference(origin, side):
  layers = origin.arrays("units/layers")
  actual = swin.resize_bias_table(layers["bias_table_13"], side * side)
  expected = layers[f"bias_table_13_to_{side}"]
  np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
