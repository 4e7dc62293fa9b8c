"""Every kind of encoder, decoder and U-TAE against stored numbers."""

import json
import pathlib

import jax
import numpy as np
import pytest

from flairhub_jax.models import build
from tests.models import numbers

KEPT = json.loads(
  pathlib.Path(__file__).with_name("numbers.json").read_text(encoding="utf-8")
)
# Encoder -> parameters for 3 channels and 384 pixels, as timm and torchvision
# count them without a classifier's layers.
NUM_PARAMETERS = {
  "swin_tiny_patch4_window7_224": 27517818,
  "swin_small_patch4_window7_224": 48835722,
  "swin_base_patch4_window7_224": 86741176,
  "swin_base_patch4_window12_384": 86876536,
  "swin_large_patch4_window7_224": 194992404,
  "swin_large_patch4_window12_384": 195195444,
  "convnextv2_atto": 3386760,
  "convnextv2_femto": 4847472,
  "convnextv2_pico": 8552256,
  "convnextv2_nano": 14981520,
  "convnextv2_tiny": 27864960,
  "convnextv2_small": 49547904,
  "convnextv2_base": 87690752,
  "convnextv2_large": 196416768,
  "convnextv2_huge": 657467008,
  "resnet18": 11176512,
  "resnet34": 21284672,
  "resnet50": 23508032,
  "resnet101": 42500160,
  "resnet152": 58143808,
}


# The one case of images, series and auxiliary decoders is also compiled as XLA
# does by default.
LEVELS = [(name, 0) for name in numbers.CASES] + [("resnet18-upernet", 3)]


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_outputs_equal_the_references(name, level):
  segmenter, variables, batch = numbers.network_of(numbers.CASES[name])
  options = {"xla_backend_optimization_level": level}
  with jax.default_matmul_precision("highest"):
    forward = jax.jit(segmenter.apply, compiler_options=options)
    actual = numbers.describe_outputs(forward(variables, batch))
  assert actual.keys() == KEPT[name].keys()
  for key, kept in KEPT[name].items():
    np.testing.assert_allclose(
      actual[key]["values"], kept["values"], rtol=0, atol=5e-5 * kept["std"]
    )
    np.testing.assert_allclose(actual[key]["std"], kept["std"], rtol=1e-5)


@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_every_encoder_has_the_published_size(name):
  encoder = build.ENCODERS[name]()
  x = jax.ShapeDtypeStruct((1, 384, 384, 3), np.float32)
  key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
  shapes = jax.eval_shape(lambda k, x: encoder.init(k, x, False), key, x)
  leaves = jax.tree.leaves(shapes["params"])
  assert sum(leaf.size for leaf in leaves) == NUM_PARAMETERS[name]


def test_no_encoder_is_left_out():
  assert set(build.ENCODERS) - set(NUM_PARAMETERS) == {"swin_nano"}
