"""All forms of an operation agree, and each platform gets its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax.errors import InputError
from flairhub_jax.models import (
  attention,
  convolution,
  kernels,
  layers,
  swin,
  upernet,
)


def draw(*shapes, dtype=jnp.float32):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.standard_normal(s), dtype) for s in shapes]


def attend(side, heads, shifted, qkv, bias):
  size, half = (3 * side, 2 * side), side // 2
  mask = swin.shift_mask(size, (side,) * 2, (half,) * 2) if shifted else None
  # Scores of a trained network: some tokens count, most do not.
  return attention.attend(qkv, 2 * bias.astype(jnp.float32), mask)


def attention_case(side, shifted):
  tokens, heads, width = side**2, 2, 8
  shapes = (12, tokens, 3 * width), (heads, tokens, tokens)
  return functools.partial(attend, side, heads, shifted), shapes


def resize(x):
  return layers.resize(x, (12, 10))


def pool(x):
  return layers.adaptive_pool(x, 3)


def enlarged(x, kernel):
  return upernet.convolve_enlarged(x, kernel, (12, 10))


def padded(mode, stride=1):
  return functools.partial(
    convolution.convolve, stride=stride, padding_mode=mode
  )


MAPS, KERNEL = (3, 6, 5, 4), (3, 3, 4, 8)
# Operation, function, shapes of what it takes.
CASES = {
  "windows of 49": ("attention", *attention_case(7, False)),
  "windows of 144, masked": ("attention", *attention_case(12, True)),
  "convolution": ("convolution", convolution.convolve, (MAPS, KERNEL)),
  "dense": ("dense", convolution.project, (MAPS, (4, 8))),
  "depthwise": (
    "depthwise",
    convolution.convolve_depthwise,
    (MAPS, (7, 7, 4)),
  ),
  "reflect": ("padded_convolution", padded("reflect"), (MAPS, KERNEL)),
  "replicate": ("padded_convolution", padded("replicate", 2), (MAPS, KERNEL)),
  "circular": ("padded_convolution", padded("circular"), (MAPS, KERNEL)),
  "resize": ("resize", resize, (MAPS,)),
  "pool": ("resize", pool, (MAPS,)),
  "enlarged": ("resize", enlarged, (MAPS, KERNEL)),
}


def value_and_gradients(case, form, dtype):
  operation, function, shapes = CASES[case]
  with kernels.forced(**{operation: form}):
    value, back = jax.vjp(function, *draw(*shapes, dtype=dtype))
    (gradient,) = draw(value.shape, dtype=value.dtype)
    return value, *back(gradient)


def test_each_operation_of_the_table_is_compared():
  assert {operation for operation, _, _ in CASES.values()} == set(kernels.FORMS)
  for operations in kernels.TABLE.values():
    assert operations.keys() == kernels.FORMS.keys()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=str)
def test_forms_agree(case, dtype):
  operation = CASES[case][0]
  actual = [
    value_and_gradients(case, form, dtype) for form in kernels.FORMS[operation]
  ]
  for one, other in zip(*actual, strict=True):
    assert one.dtype == other.dtype
    one, other = (np.asarray(x, np.float64) for x in (one, other))
    bound = 2e-5 if dtype == jnp.float32 else 0.04
    assert np.abs(one - other).max() < bound * np.abs(other).max()


def lowered(case, platform):
  """Forward and backward pass as they go to the compiler of a platform."""
  _, function, shapes = CASES[case]

  def both(*arrays):
    value, back = jax.vjp(function, *arrays)
    return value, back(value)

  traced = jax.jit(both).trace(*draw(*shapes))
  return traced.lower(lowering_platforms=(platform,)).as_text()


def count(text, operation):
  return text.count(f"stablehlo.{operation}")


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_get_what_their_libraries_have(platform):
  for case in ("convolution", "reflect", "replicate", "circular", "depthwise"):
    text = lowered(case, platform)
    # Forward, gradient of the maps, gradient of the kernel.
    assert count(text, "convolution") >= 3, case
    assert not count(text, "while") and not count(text, "dot_general"), case
  for case in ("windows of 49", "windows of 144, masked"):
    text = lowered(case, platform)
    assert not count(text, "while"), case
  assert not count(lowered("resize", platform), "broadcast_in_dim")


def test_cpus_keep_their_forms():
  assert count(lowered("convolution", "cpu"), "convolution") == 1
  assert not count(lowered("reflect", "cpu"), "convolution")
  assert not count(lowered("depthwise", "cpu"), "convolution")
  for case in ("windows of 49", "reflect"):
    assert count(lowered(case, "cpu"), "while") >= 2, case
  assert count(lowered("resize", "cpu"), "broadcast_in_dim") >= 2


def test_the_form_follows_the_platform_of_an_export():
  _, function, shapes = CASES["reflect"]
  of_cuda, of_both = (
    jax.export.export(jax.jit(function), platforms=platforms)(*draw(*shapes))
    for platforms in (("cuda",), ("cpu", "cuda"))
  )
  assert count(of_cuda.mlir_module(), "convolution") == 1
  assert not count(of_cuda.mlir_module(), "while")
  text = of_both.mlir_module()
  assert count(text, "convolution") and count(text, "while")
  arrays = draw(*shapes)
  np.testing.assert_allclose(
    of_both.call(*arrays), function(*arrays), rtol=1e-5, atol=1e-5
  )


def test_under_vmap_and_default_device():
  _, function, shapes = CASES["windows of 49"]
  qkv, bias = draw(*shapes)
  expected = function(qkv, bias)
  actual = jax.vmap(function, (0, None))(
    qkv.reshape(2, 6, *qkv.shape[1:]), bias
  )
  np.testing.assert_allclose(
    actual.reshape(expected.shape), expected, rtol=1e-5
  )
  with jax.default_device(jax.devices("cpu")[1]):
    np.testing.assert_allclose(function(qkv, bias), expected, rtol=1e-5)


def test_gradients_have_the_precision_of_the_forward_pass():
  x, kernel = draw(MAPS, KERNEL)
  with jax.default_matmul_precision("highest"):
    _, back = jax.vjp(convolution.convolve, x, kernel)
  text = jax.jit(lambda: back(jnp.ones((3, 6, 5, 8)))).lower().as_text()
  assert text.count("HIGHEST") >= 2 and "DEFAULT" not in text


def test_a_form_that_does_not_exist_is_refused(monkeypatch):
  monkeypatch.setenv(kernels.VARIABLE, "attention=parts,resize=library")
  kernels.check_environment()
  for text in ("attention=lines", "attentoin=parts", "parts"):
    monkeypatch.setenv(kernels.VARIABLE, text)
    with pytest.raises(InputError, match=r"FLAIRHUB_KERNELS.*attention=parts"):
      kernels.check_environment()
