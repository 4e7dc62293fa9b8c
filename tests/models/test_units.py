"""Parts of the network against the reference's numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import (
  convolution,
  late,
  layers,
  ltae,
  mid,
  utae,
)
from flairhub_jax.weights import reference

CLOSE = dict(rtol=0, atol=5e-6)

# Every kind of U-TAE, small; and at the published widths.
UTAE_CASES = (
  ("own", "utae_att_group_nopad"),
  ("own", "utae_att_group_pad"),
  ("own", "utae_att_mean_pad"),
  ("own", "utae_batchnorm_encoder"),
  ("own", "utae_mean_pad"),
  ("own", "utae_strided_pad"),
  ("shared", "utae_att_group_pad"),
  ("shared", "utae_att_mean_nopad"),
  ("shared", "utae_mean_nopad"),
  ("shared", "utae_resnet_widths_lpis"),
  ("shared", "utae_strided_att_group_pad"),
  ("shared", "utae_swin_widths"),
)
# Bounds, relative, of gradient norms. The others differ from these in what has
# no gradient of its own.
UTAE_TRAIN_CASES = {
  ("own", "utae_att_group_pad"): 5e-4,
  ("own", "utae_batchnorm_encoder"): 5e-4,
  ("own", "utae_mean_pad"): 5e-4,
  ("own", "utae_strided_pad"): 5e-4,
  ("shared", "utae_strided_att_mean_nopad"): 5e-4,
}


def channels_last(x):
  return np.moveaxis(np.asarray(x), 1, -1)


@pytest.fixture(scope="module")
def utae_case(units, origin):
  """Makes network, variables, inputs and numbers of a U-TAE alone."""
  return functools.cache(functools.partial(build_utae_case, units, origin.rule))


def build_utae_case(units, rule, name):
  settings, load = units
  case = settings[name]
  config = case["cfg"]
  network = utae.UTAE(
    encoder_widths=tuple(config["encoder_widths"]),
    decoder_widths=tuple(config["decoder_widths"]),
    head_widths=tuple(config["out_conv"]),
    kernel=config["str_conv_k"],
    stride=config["str_conv_s"],
    padding=config["str_conv_p"],
    aggregation=config["agg_mode"],
    encoder_norm=config["encoder_norm"],
    padding_mode=config["padding_mode"],
    num_heads=config["n_head"],
    attention_width=config["d_model"],
    key_width=config["d_k"],
    attention_dropout=0.0,
    mlp_dropout=0.0,
    # Without padding the default must equal the reference too.
    count_padding="nopad" not in name,
  )
  x, dates = (rule.make_input(name, spec) for spec in case["inputs"])
  length = np.array(case["inputs"][0]["n_valid"])[:, None]
  inputs = (
    np.moveaxis(x, 2, -1),
    dates.astype(np.int32),
    np.arange(dates.shape[1]) < length,
  )
  shape = jax.eval_shape(
    lambda key: network.init(key, *inputs, False), jax.random.key(0)
  )
  # The table knows encoders by their place in the whole network.
  prefix = "encoders.SENTINEL2_TS."
  tensors = {
    prefix + key: rule.make_param(case["key_prefix"] + key, shape, dtype)
    for key, shape, dtype in case["state_keys"]
  }
  place = "encoder_SENTINEL2_TS"
  shape = {collection: {place: tree} for collection, tree in shape.items()}
  variables = reference.from_reference(tensors, shape)
  variables = {name: tree[place] for name, tree in variables.items()}
  return network, variables, inputs, load(name)


@pytest.mark.parametrize(("origin", "name"), UTAE_CASES, indirect=["origin"])
def test_utae_equals_the_references(origin, name, utae_case):
  network, variables, inputs, numbers = utae_case(name)
  forward = functools.partial(network.apply, train=False)
  forward = jax.jit(forward)
  logits, maps = forward(variables, *inputs)
  actual = {"out": logits} | {f"map{i}": x for i, x in enumerate(maps)}
  for key, x in actual.items():
    x, expected = np.moveaxis(np.asarray(x), -1, 1), numbers[key]
    if expected.ndim == 1:
      x = origin.rule.sample(x, expected.size)
    error = np.abs(x - expected) / expected.std()
    # The closing norm magnifies rounding where a group is nearly all zero.
    assert np.quantile(error, 0.998) < 3e-5
    assert error.max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
  ("origin", "name", "bound"),
  [(*case, bound) for case, bound in UTAE_TRAIN_CASES.items()],
  indirect=["origin"],
)
def test_gradients_of_utae_equal_the_references(name, bound, utae_case):
  network, variables, inputs, numbers = utae_case(name)

  def loss_fn(params):
    (logits, maps), _ = network.apply(
      variables | {"params": params},
      *inputs,
      train=True,
      rngs={"dropout": jax.random.key(0)},
      mutable=["batch_stats"],
    )
    return sum(jnp.square(x).mean() for x in [logits, *maps])

  step = jax.jit(jax.value_and_grad(loss_fn))
  loss, gradients = step(variables["params"])
  np.testing.assert_allclose(loss, numbers["train_loss"], rtol=5e-6)
  tree = {"params": {"encoder_SENTINEL2_TS": gradients}}
  tensors = reference.to_reference(tree)
  norms = dict(
    zip(numbers["grad_keys"].tolist(), numbers["grad_norms"], strict=True)
  )
  total = np.sqrt(np.square(numbers["grad_norms"]).sum())
  assert len(tensors) == len(norms)
  for key, norm in norms.items():
    actual = np.linalg.norm(tensors[f"encoders.SENTINEL2_TS.{key}"])
    assert abs(actual - norm) < bound * norm + 1.5e-4 * total, key


@pytest.mark.parametrize(
  ("name", "first"),
  [
    ("fusion_mono_multi", 2),
    ("fusion_mono_mono", 2),
    ("fusion_resnet_like", 0),
  ],
)
def test_fusion_equals_the_references(name, first, units, origin):
  settings, load = units
  numbers, case = load(name), settings[name]
  maps = {}
  for key in numbers:
    if key.startswith("in/"):
      _, modality, level = key.split("/")
      drop = 0 if FLAIR_HUB.sensors[modality].is_series else first
      if int(level) >= drop:
        maps.setdefault(modality, []).append(channels_last(numbers[key]))
  params = {}
  for key, shape in case["keys"]:
    value = origin.rule.make_param(case["key_prefix"] + key, shape)
    _, level, leaf = key.split(".")
    if leaf == "weight":
      params[f"kernel_{level}"] = value[:, :, 0, 0].T
    else:
      params[f"bias_{level}"] = value
  module = mid.MidConcat()
  actual = module.apply({"params": params}, maps, {})
  # An image, the first of six levels, is not fused.
  first += len(next(iter(maps.values()))) - len(actual)
  for i, x in enumerate(actual):
    expected = channels_last(numbers[f"out/{first + i}"])
    np.testing.assert_allclose(x, expected, **CLOSE)


def test_mean_of_series_equals_the_references(units):
  _, load = units
  numbers = load("fusion_multi_only")
  logits = {
    key.removeprefix("in/"): channels_last(numbers[key])
    for key in numbers
    if key.startswith("in/")
  }
  actual = late.MeanLogits().apply({}, logits, {})
  expected = channels_last(numbers["out"])
  np.testing.assert_allclose(actual, expected, **CLOSE)


@pytest.fixture(scope="module")
def numbers(units):
  return units[1]("layers")


def test_convolutions_equal_the_references(numbers):
  x = jnp.asarray(channels_last(numbers["x"]))
  kernel = numbers["w3"].transpose(2, 3, 1, 0)
  actual = convolution.convolve(x, kernel, padding_mode="reflect")
  expected = channels_last(numbers["conv_reflect"])
  np.testing.assert_allclose(actual, expected, **CLOSE)
  for key, stride in (("k3s1p1", 1), ("k4s2p1", 2)):
    kernel = numbers["wt" if stride == 1 else "wt4"].transpose(2, 3, 0, 1)
    actual = convolution.transposed_convolve(
      x, kernel, stride=stride, padding=1
    )
    expected = channels_last(numbers[f"conv_transpose_{key}"])
    np.testing.assert_allclose(actual, expected, **CLOSE)


def test_resizing_equals_the_references(numbers):
  x = channels_last(numbers["x"])
  h, w = x.shape[1:3]
  rows, columns = (
    layers.bilinear_matrix(4 * n, n, align_corners=True) for n in (h, w)
  )
  actual = layers.apply_matrices(jnp.asarray(x), rows, columns)
  expected = channels_last(numbers["up_align_corners_x4"])
  np.testing.assert_allclose(actual, expected, **CLOSE)
  for key, size in (("20x13", (20, 13)), ("down_3x4", (3, 4))):
    actual = layers.resize(jnp.asarray(x), size)
    expected = channels_last(numbers[f"interp_false_{key}"])
    np.testing.assert_allclose(actual, expected, **CLOSE)


@pytest.mark.parametrize("side", [10, 16])
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_adaptive_pooling_equals_the_references(numbers, side, size):
  x = jnp.asarray(channels_last(numbers[f"x{side}"]))
  expected = channels_last(numbers[f"adaptive{side}_{size}"])
  np.testing.assert_allclose(layers.adaptive_pool(x, size), expected, **CLOSE)


def test_gelu_equals_the_references(numbers):
  np.testing.assert_allclose(
    layers.gelu(jnp.asarray(numbers["x"])), numbers["gelu"], **CLOSE
  )


def test_positional_encoding_equals_the_references(units):
  numbers = units[1]("positional_encoding")
  days = numbers["days"].astype(np.int32)
  np.testing.assert_array_equal(days, numbers["days"])
  actual = ltae.positional_encoding(days, 16)
  # Float32 angles of some hundred radians carry errors of 1e-5.
  np.testing.assert_allclose(actual, numbers["table"], rtol=0, atol=2e-5)
