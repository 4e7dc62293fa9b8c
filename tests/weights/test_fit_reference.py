"""Exceptions to strictness, image sizes, and class weights beside a network."""

import re

import jax
import numpy as np
import pytest

from flairhub_jax import errors
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build
from flairhub_jax.weights import reference
from tests.parity import origin as numbers
from tests.weights import reference_files

HEAD = "main_decoders.AERIAL_LABEL-COSIA.seg_model.segmentation_head.0.weight"


@pytest.fixture(scope="module")
def network():
  """Shapes of a small network, and tensors that fit it."""
  document = reference_files.network()
  sides = {"AERIAL_RGBI": 64}
  shape = reference_files.shapes_of(reference_files.config_of(document), sides)
  return shape, reference_files.tensors_of(document, sides, prefix="")


def ones(shape):
  return lambda: jax.tree.map(lambda leaf: np.ones(leaf.shape), shape)


def test_allowed_exceptions_are_drawn_or_left_out_and_named(network):
  shape, tensors = network
  tensors = dict(tensors)
  tensors[HEAD] = tensors[HEAD][:5]
  del tensors[HEAD.replace("weight", "bias")]
  tensors["main_decoders.old.weight"] = np.zeros(3, np.float32)
  fitted = reference.fit_reference(
    tensors, *shape, allow=re.compile("main_decoders"), start=ones(shape)
  )
  assert len(fitted.notes) == 3
  assert "(5, 16, 3, 3)" in "".join(fitted.notes)
  head = fitted.variables["params"]["decoder_AERIAL_LABEL-COSIA"]["head_conv"]
  assert (head["kernel"] == 1).all() and (head["bias"] == 1).all()
  # All else is the file's, even where an exception would be allowed.
  rest = fitted.variables["params"]["decoder_AERIAL_LABEL-COSIA"]["block_0"]
  assert not (rest["conv_1"]["kernel"] == 1).any()


def test_other_exceptions_are_refused(network):
  shape, tensors = network
  tensors = dict(tensors)
  del tensors[HEAD]
  del tensors["encoders.AERIAL_RGBI.seg_model.model.stem_0.weight"]
  with pytest.raises(errors.InputErrors) as error:
    reference.fit_reference(
      tensors, *shape, allow=re.compile("head"), start=ones(shape)
    )
  (problem,) = error.value.problems
  assert "stem_0" in problem


def test_nothing_is_drawn_where_all_fits(network):
  shape, tensors = network
  fitted = reference.fit_reference(tensors, *shape, allow=re.compile(""))
  assert not fitted.notes


@pytest.mark.parametrize(
  "prefix",
  [
    "module.",
    "_orig_mod.",
    "model.",
    "ema_model.module.",
    "state.net._orig_mod.",
  ],
)
def test_prefixes_of_wrappers_are_recognised_and_named(network, prefix):
  shape, tensors = network
  wrapped = {prefix + key: tensor for key, tensor in tensors.items()}
  wrapped |= {
    f"{prefix}criterion.a.weight": np.ones(3),
    "n_averaged": np.ones(1),
  }
  fitted = reference.fit_reference(wrapped, *shape)
  jax.tree.map(
    np.testing.assert_array_equal,
    fitted.variables,
    reference.from_reference(tensors, *shape),
  )
  assert [prefix.rstrip(".").split(".")[0] in n for n in fitted.notes] == (
    [] if prefix == "model." else [True]
  )


def test_a_prefix_is_recognised_key_by_key(network):
  """One compiled part, and one key that is of no network."""
  shape, tensors = network
  mixed = {
    f"model.{key.replace('.seg_model.', '._orig_mod.seg_model.', 1)}": tensor
    for key, tensor in tensors.items()
  }
  mixed[HEAD] = mixed.pop(
    f"model.{HEAD}".replace(".seg_model", "._orig_mod.seg_model", 1)
  )
  mixed["val_metrics.confmat"] = np.zeros((19, 19))
  with pytest.raises(errors.InputErrors) as error:
    reference.fit_reference(mixed, *shape)
  assert len(error.value.problems) == 1
  assert "val_metrics.confmat" in str(error.value)
  reference.fit_reference(mixed, *shape, allow=re.compile("^val_metrics"))


def test_a_network_and_its_average_in_one_file(network):
  """`--allow` says which of the two is left."""
  shape, tensors = network
  both = {f"model.{key}": tensor for key, tensor in tensors.items()}
  both |= {f"ema.{key}": tensor + 1 for key, tensor in tensors.items()}
  with pytest.raises(errors.InputErrors) as error:
    reference.fit_reference(both, *shape)
  assert len(str(error.value).splitlines()) == errors.MOST_LINES + 1
  of = {
    name: reference.fit_reference(
      both, *shape, allow=re.compile(f"^{other}\\.")
    )
    for name, other in (("model", "ema"), ("ema", "model"))
  }
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a + 1, b, rtol=1e-6),
    of["model"].variables,
    of["ema"].variables,
  )


@pytest.mark.parametrize(
  ("suffix", "value", "message"),
  [
    ("num_batches_tracked", np.float32(3), "float32"),
    ("num_batches_tracked", np.int64(2**31), str(2**31)),
    ("stem_0.bias", np.zeros(40, np.int64), "int64"),
  ],
)
def test_values_of_another_kind(network, suffix, value, message):
  shape, tensors = network
  key = next(key for key in tensors if key.endswith(suffix))
  with pytest.raises(errors.InputErrors, match=message):
    reference.from_reference({**tensors, key: np.asarray(value)}, *shape)


@pytest.mark.parametrize("shape", [(529,), (0, 4), (528, 4), (529, 5), (1, 1)])
def test_tables_that_are_none_are_not_resized(shape):
  document = reference_files.network("swin_tiny_patch4_window7_224-upernet")
  config = reference_files.config_of(document)
  variables = reference_files.shapes_of(config, {"AERIAL_RGBI": 64})
  tensors = reference_files.tensors_of(document, {"AERIAL_RGBI": 64})
  key = next(
    key for key in tensors if "layers_0.blocks.0" in key and "bias_t" in key
  )
  tensors[key] = np.zeros(shape, np.float32)
  with pytest.raises(errors.InputErrors, match=r"layers_0\.blocks\.0"):
    reference.from_reference(tensors, *variables, resize_bias_tables=True)


def tables(window, side, prefix=""):
  """Tables of positions of a Swin for images of a side."""
  actual = {}
  for stage in range(4):
    shrunk = min(window, -(-side // (4 << stage)))
    key = (
      f"{prefix}encoders.SPOT_RGBI.seg_model.model.layers_{stage}.blocks.0"
      ".attn.relative_position_bias_table"
    )
    actual[key] = np.zeros(((2 * shrunk - 1) ** 2, 4), np.float32)
  return actual


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("window", [7, 12])
@pytest.mark.parametrize(
  ("side", "published", "actual"),
  [
    (64, 64, 64),  # as published
    (512, 512, 512),
    (1024, 512, 512),  # no table shows the difference
    (128, 512, 128),
    (64, 512, 64),
    (32, 64, 32),
  ],
)
def test_the_side_follows_from_the_tables(
  window, side, published, actual, prefix
):
  tensors = tables(window, side, prefix)
  args = ("SPOT_RGBI", window, published)
  assert reference.fitting_size(tensors, *args) == actual


def test_a_side_that_no_tables_fit_is_the_published_one():
  tensors = tables(7, 64) | {"x": np.zeros(3)}
  last = next(key for key in tensors if "layers_2" in key)
  tensors[last] = np.zeros((25, 4))
  assert reference.fitting_size(tensors, "SPOT_RGBI", 7, 512) == 512
  assert reference.fitting_size({}, "SPOT_RGBI", 7, 512) == 512
  # Another window altogether.
  assert reference.fitting_size(tables(12, 512), "SPOT_RGBI", 7, 512) == 512


@pytest.mark.parametrize("name", numbers.MANIFESTS)
def test_class_weights_and_sides_of_every_manifest(name):
  manifest = numbers.manifest(name)
  shapes = {key: (tuple(shape), t) for key, shape, t in manifest["keys"]}
  weights = reference.class_weights(
    {
      task: FLAIR_HUB.tasks[task].scored.astype(float)
      for task in manifest["labels"]
    },
    [m for m in manifest["aux_losses"] if m in manifest["modalities"]],
  )
  actual = {key: (w.shape, w.dtype.name) for key, w in weights.items()}
  expected = {k: v for k, v in shapes.items() if k.startswith("criterion.")}
  assert actual == expected
  rest = shapes.keys() - actual.keys()
  assert all(key.startswith("model.") for key in rest)
  # The sides that the manifest was made for follow from its tables.
  encoder = build.ENCODERS[manifest["arch"].partition("-")[0]]()
  tensors = {
    key: np.broadcast_to(np.float32(0), shape)
    for key, (shape, _) in shapes.items()
  }
  for modality in manifest["modalities"]:
    row = FLAIR_HUB.sensors[modality]
    if not row.is_series and hasattr(encoder, "window"):
      side = reference.fitting_size(
        tensors, modality, encoder.window, row.pixels
      )
      assert side == manifest["img_input_sizes"][modality]
