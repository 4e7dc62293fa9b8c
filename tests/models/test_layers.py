"""Layers: fast forms against plain ones, statistics, starting values."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import (
  convnext,
  convolution,
  initialise,
  inputs,
  layers,
  normalise,
  norms,
  swin,
  upernet,
)


def normal(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def value_and_gradients(function, *arguments):
  def total(*arguments):
    return jnp.sin(function(*arguments)).sum()

  numbers = tuple(range(len(arguments)))
  return function(*arguments), *jax.grad(total, numbers)(*arguments)


def assert_forms_agree(first, second, *arguments):
  for x, y in zip(
    value_and_gradients(first, *arguments),
    value_and_gradients(second, *arguments),
    strict=True,
  ):
    np.testing.assert_allclose(x, y, rtol=0, atol=3e-5)


def plain_convolution(x, kernel, stride=1, padding=1, mode="constant"):
  """Pads, then leaves everything to XLA."""
  edge = (padding, padding)
  x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)), mode=mode)
  numbers = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), "VALID", dimension_numbers=numbers
  )


def test_products_agree_with_autodiff():
  x, kernel = normal(2, 3, 5), normal(5, 4, seed=1)
  assert_forms_agree(convolution.project, jnp.matmul, x, kernel)


def test_convolutions_of_the_same_size_agree_with_xla():
  x, kernel = normal(2, 7, 9, 5), normal(3, 3, 5, 4, seed=1)
  assert_forms_agree(convolution.convolve, plain_convolution, x, kernel)


@pytest.mark.parametrize("mode", sorted(convolution.PADDING_MODES))
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (4, 2)])
def test_padded_convolutions_agree_with_xla(mode, side, stride):
  x, kernel = normal(2, 6, 8, 3), normal(side, side, 3, 4, seed=1)
  assert_forms_agree(
    lambda x, k: convolution.convolve(x, k, stride=stride, padding_mode=mode),
    lambda x, k: plain_convolution(
      x, k, stride, mode=convolution.PADDING_MODES[mode]
    ),
    x,
    kernel,
  )


@pytest.mark.parametrize("size", [(8, 12), (9, 7)])
def test_convolving_an_enlarged_map_agrees_with_doing_so(size):
  x, kernel = normal(2, 4, 3, 5), normal(3, 3, 5, 4, seed=1)
  assert_forms_agree(
    lambda x, k: upernet.convolve_enlarged(x, k, size),
    lambda x, k: plain_convolution(layers.resize(x, size), k),
    x,
    kernel,
  )


def test_batch_norm_records_the_unbiased_variance_of_what_counts():
  x = normal(4, 3, 2) * 3 + 1
  module = norms.BatchNorm()
  variables = module.init(jax.random.key(0), x, True)
  counted = jnp.asarray([1.0, 1.0, 0.0, 1.0])[:, None, None]
  y, updates = module.apply(
    variables, x, True, counted, mutable=["batch_stats"]
  )
  seen = np.asarray(x)[[0, 1, 3]].reshape(-1, 2)
  stats = updates["batch_stats"]
  np.testing.assert_allclose(stats["mean"], 0.1 * seen.mean(0), rtol=1e-5)
  expected = 0.9 + 0.1 * seen.var(0, ddof=1)
  np.testing.assert_allclose(stats["var"], expected, rtol=1e-5)
  expected = (x - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-5)
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_group_norm_ignores_what_does_not_count():
  x = normal(2, 5, 3, 8)
  module = norms.GroupNorm(4, axes=(1,))
  variables = module.init(jax.random.key(0), x)
  counted = jnp.ones((2, 5, 1, 1)).at[:, 3:].set(0.0)
  actual = module.apply(variables, x, counted)[:, :3]
  expected = module.apply(variables, x[:, :3])
  np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def plain_group_norm(x, scale, bias, counted, groups, axes):
  """The definition, for autodiff."""
  grouped = x.reshape(*x.shape[:-1], groups, -1)
  counted = jnp.broadcast_to(counted[..., None], grouped.shape)
  axes = (*axes, x.ndim)
  number = counted.sum(axes, keepdims=True)
  mean = (grouped * counted).sum(axes, keepdims=True) / number
  spread = jnp.square(grouped - mean) * counted
  variance = spread.sum(axes, keepdims=True) / number
  y = (grouped - mean) / jnp.sqrt(variance + 1e-5)
  return y.reshape(x.shape) * scale + bias


@pytest.mark.parametrize("counts_all", [True, False])
@pytest.mark.parametrize(("groups", "axes"), [(4, (1, 2)), (8, (1,)), (2, ())])
def test_group_norm_agrees_with_autodiff(groups, axes, counts_all):
  x, scale, bias = normal(2, 5, 3, 8), normal(8, seed=1), normal(8, seed=2)
  counted = jnp.ones((2, 5, 3, 1))
  if not counts_all:
    # A position alone without axes to share statistics with always counts.
    counted = counted.at[:, 3:].set(0.0 if axes else 1.0)
  module = norms.GroupNorm(groups, axes=axes)

  def ours(x, scale, bias):
    variables = {"params": {"scale": scale, "bias": bias}}
    return module.apply(variables, x, None if counts_all else counted)

  def plain(x, scale, bias):
    return plain_group_norm(x, scale, bias, counted, groups, axes)

  assert_forms_agree(ours, plain, x, scale, bias)


def test_instance_norm_agrees_with_autodiff():
  x = normal(2, 5, 3, 8)
  one, none = jnp.ones((2, 5, 3, 1)), jnp.zeros(8)
  assert_forms_agree(
    lambda x: norms.GroupNorm(None).apply({}, x),
    lambda x: plain_group_norm(x, none + 1, none, one, 8, (1, 2)),
    x,
  )


def test_drop_path_keeps_the_mean():
  module = layers.DropPath(0.25)
  x = jnp.ones((4000, 1))
  rngs = {"dropout": jax.random.key(0)}
  y = np.asarray(module.apply({}, x, True, rngs=rngs))
  assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
  assert abs(y.mean() - 1.0) < 0.05
  np.testing.assert_array_equal(module.apply({}, x, False), x)


@pytest.mark.parametrize(
  ("encoder", "per_block"),
  [
    (swin.Swin(8, (1, 2, 1, 1), (1, 1, 2, 2), 7, drop_path_rate=0.4), 2),
    (convnext.ConvNeXt((4, 8, 8, 8), (1, 2, 1, 1), drop_path_rate=0.4), 1),
  ],
)
def test_drop_path_rises_from_block_to_block_as_timms(encoder, per_block):
  rates = []

  def note(call, args, options, context):
    if isinstance(context.module, layers.DropPath):
      rates.append(context.module.rate)
    return call(*args, **options)

  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  with nn.intercept_methods(note):
    jax.eval_shape(
      lambda x: encoder.init(jax.random.key(0), x, train=False), image
    )
  # timm's calculate_drop_path_rates: evenly spaced over all blocks.
  expected = np.repeat([0.0, 0.1, 0.2, 0.3, 0.4], per_block)
  np.testing.assert_allclose(rates, expected, atol=1e-9)


def test_shifted_windows_see_their_own_side_only():
  mask = swin.shift_mask((4, 4), (2, 2), (1, 1))
  assert mask.shape == (4, 4, 4)
  # Of the last window, every token comes from another corner of the map.
  np.testing.assert_array_equal(mask[3] == 0, np.eye(4, dtype=bool))
  assert not mask[0].any()
  # A shift along rows alone keeps only rows apart.
  mask = swin.shift_mask((4, 2), (2, 2), (1, 0))
  assert not mask[0].any()
  same_row = np.kron(np.eye(2), np.ones((2, 2))).astype(bool)
  np.testing.assert_array_equal(mask[1] == 0, same_row)


def test_bands_are_chosen_by_name_and_normalised():
  x = np.array([[[[700.0, 650.0]]]], np.float32)
  sensor = FLAIR_HUB.sensors["DEM_ELEV"]
  source = inputs.input_spec(sensor, ("NDSM", "DSM"), (10, 0), (2, 1))
  actual = normalise.normalise(x, source)
  np.testing.assert_array_equal(actual, [[[[20.0, 700.0]]]])


def test_integers_become_float32_before_arithmetic():
  x = np.array([[[[10, 200, 30, 40]]]], np.uint8)
  source = inputs.input_spec(FLAIR_HUB.sensors["AERIAL_RGBI"], ("NIR", "G"))
  actual = normalise.normalise(x, source)
  assert actual.dtype == jnp.float32
  np.testing.assert_array_equal(actual, [[[[40.0, 200.0]]]])


@pytest.mark.parametrize(
  ("draw", "std"),
  [
    (initialise.Draw("normal", 0.5), 0.5),
    (initialise.Draw("uniform", 0.5), 0.5 / np.sqrt(3)),
  ],
)
def test_host_and_device_draw_alike(draw, std):
  shape = (200, 300)
  host = draw.on_host(np.random.default_rng(0), shape)
  device = draw(jax.random.key(0), shape)
  assert host.dtype == device.dtype == np.float32
  for x in (host, device):
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - std) < 0.01


def test_parameters_start_from_the_seed_and_their_name():
  class Pair(swin.nn.Module):
    names: tuple[str, ...]

    @swin.nn.compact
    def __call__(self, x):
      for name in self.names:
        x = layers.Dense(3, name=name)(x)
      return x

  x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
  first = initialise.init_variables(Pair(("a", "b")), x, seed=1)["params"]
  second = initialise.init_variables(Pair(("b",)), x, seed=1)["params"]
  other = initialise.init_variables(Pair(("b",)), x, seed=2)["params"]
  np.testing.assert_array_equal(first["b"]["kernel"], second["b"]["kernel"])
  assert np.any(first["a"]["kernel"] != first["b"]["kernel"])
  assert np.any(other["b"]["kernel"] != second["b"]["kernel"])
