"""Networks hold only parameters that their outputs depend on."""

import functools

import jax
import pytest
from jax.custom_derivatives import SymbolicZero

from flairhub_jax.models import build
from tests.models.test_fusion import KINDS, SETS
from tests.models.test_segmenter import (
  COSIA,
  LPIS,
  random_batch,
  small_config,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def watched(note, x):
  """`x`; calls `note` where tracing shows that it has a gradient."""
  return x


def backward(note, residuals, gradient):
  if isinstance(gradient, SymbolicZero):
    return (None,)
  note()
  return (gradient,)


watched.defvjp(lambda note, x: (x.value, None), backward, symbolic_zeros=True)


def without_gradient(segmenter, batch):
  """Parameters on which no output depends; nothing is computed."""
  actual = set()

  def total(params, rest):
    params = jax.tree_util.tree_map_with_path(
      lambda path, x: watched(functools.partial(actual.add, path), x), params
    )
    outputs, _ = segmenter.apply(
      rest | {"params": params},
      batch,
      train=True,
      rngs={"dropout": jax.random.key(0)},
      mutable=["batch_stats"],
    )
    return sum(x.sum() for x in jax.tree.leaves(outputs))

  shapes = build.variables_shape(segmenter, batch)
  params = shapes.pop("params")
  jax.eval_shape(jax.grad(total), params, shapes)
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  return {jax.tree_util.keystr(p) for p, _ in leaves if p not in actual}


CASES = [(kind, name, "swin_nano") for kind in KINDS for name in SETS]
# Its first level, the image, is read by no decoder.
RESNET = ("early", "mid_concat", "mid_gated", "late_mean")
CASES += [(kind, "images and series", "resnet18") for kind in RESNET]


@pytest.mark.parametrize(("kind", "name", "encoder"), CASES)
def test_every_parameter_has_a_gradient(kind, name, encoder):
  chosen = SETS[name]
  config = small_config(*chosen)
  config.fusion.kind = kind
  config.data.tasks = (COSIA,) if name == "one series" else (COSIA, LPIS)
  config.model.encoder = encoder
  config.model.auxiliary = chosen[:1]
  sides = {"AERIAL_RGBI": 32, "DEM_ELEV": 32}
  batch = random_batch({m: sides.get(m, 10) for m in chosen}, num_dates=2)
  segmenter = build.build_segmenter(config, output_size=(32, 32))
  assert not without_gradient(segmenter, batch)


def test_a_parameter_without_one_is_found():
  class Half:
    def apply(self, variables, batch, **_):
      params = variables["params"]
      stopped = jax.lax.stop_gradient(params["stopped"])
      # A gradient that happens to be zero is one, as in PyTorch.
      return params["used"] * stopped + 0.0 * params["zero"], {}

  params = {
    name: jax.ShapeDtypeStruct((), "float32")
    for name in ("used", "stopped", "unused", "zero")
  }
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(build, "variables_shape", lambda *_: {"params": params})
    assert without_gradient(Half(), {}) == {"['stopped']", "['unused']"}
