"""bfloat16 and the precision of float32: which products have it."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax.errors import InputError
from flairhub_jax.models import build, flop_count, initialise
from tests import tiny

SIDE = 64


def configure(dtype="bfloat16", changes=()):
  config = tiny.get_config()
  config.dtype = dtype
  config.data.tasks = ("AERIAL_LABEL-COSIA",)
  config.inputs["AERIAL_RGBI"].pixels = SIDE
  config.update_from_flattened_dict(dict(changes))
  return config


def trace(config):
  """Forward and backward, nothing computed."""
  model = build.build_segmenter(config, output_size=(SIDE, SIDE))
  batch = build.input_shapes(config, num_dates=4)
  variables = build.variables_shape(model, batch)
  assert all(
    leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables["params"])
  )
  key = jax.eval_shape(lambda: jax.random.key(0))

  def loss(params, rest, batch, key):
    outputs, _ = model.apply(
      {"params": params, **rest},
      batch,
      train=True,
      rngs={"dropout": key},
      mutable=["batch_stats"],
    )
    (logits,) = outputs["logits"].values()
    assert logits.dtype == jnp.float32
    return jnp.square(logits).sum()

  rest = {"batch_stats": variables["batch_stats"]}
  return jax.make_jaxpr(jax.grad(loss))(variables["params"], rest, batch, key)


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"fusion.kind": "early"},
    {"fusion.kind": "mid_gated"},
    {"fusion.kind": "mid_attention"},
    {"fusion.kind": "late_gated"},
    {"model.encoder": "convnextv2_atto"},
    {"model.encoder": "resnet18"},
    {"model.encoder": "resnet18", "model.decoder": "unet"},
    {
      "data.modalities": ("SENTINEL2_TS",),
      "model.utae.encoder_widths": (64, 64),
    },
  ],
  ids=str,
)
def test_products_run_in_bfloat16(changes):
  """Nearly all of them.

  Not what meets raw values, makes weights of modalities, or enlarges logits; at
  full size their share is smaller still.
  """
  count = {True: 0, False: 0}
  jaxpr = trace(configure(changes=changes)).jaxpr
  for equation, times in flop_count.products(jaxpr):
    types = {x.aval.dtype for x in equation.invars}
    number = times * flop_count.multiplications(equation)
    count[types == {jnp.dtype("bfloat16")}] += number
  assert count[False] < 0.15 * count[True]


def test_logits_come_near_those_of_float32():
  exact, near = (configure(dtype) for dtype in ("float32", "bfloat16"))
  rng = np.random.default_rng(0)
  shapes = build.input_shapes(exact, num_dates=4)
  batch = jax.tree.map(
    lambda x: rng.integers(0, 200, x.shape).astype(x.dtype), shapes
  )
  networks = [
    build.build_segmenter(c, output_size=(SIDE, SIDE)) for c in (exact, near)
  ]
  variables = initialise.init_variables(networks[0], shapes, seed=0)
  logits = [
    np.asarray(
      jax.jit(network.apply)(variables, batch)["logits"]["AERIAL_LABEL-COSIA"]
    )
    for network in networks
  ]
  error = (logits[1] - logits[0]).std() / logits[0].std()
  assert 0 < error < 0.03


def test_another_type_is_refused():
  with pytest.raises(InputError, match=r"config\.dtype.*float16"):
    build.build_segmenter(configure("float16"), output_size=(SIDE, SIDE))


@pytest.mark.parametrize("precision", ["default", "high", "highest"])
def test_all_products_have_the_configurations_precision(precision):
  """Forward and backward, outside of any context, in forms of each platform."""
  expected = {
    "default": None,
    "high": jax.lax.Precision.HIGH,
    "highest": jax.lax.Precision.HIGHEST,
  }[precision]
  config = configure("float32", {"matmul_precision": precision})
  with jax.default_matmul_precision(None):
    jaxpr = trace(config).jaxpr
  actual = {equation.params["precision"] for equation, _ in all_products(jaxpr)}
  # The sum over windows as a product with ones is always exact.
  actual -= (
    {(jax.lax.Precision.HIGHEST,) * 2} if precision != "highest" else {None}
  )
  assert actual == {expected and (expected, expected)}


def all_products(jaxpr):
  """Those of all forms."""
  for equation in jaxpr.eqns:
    if equation.primitive.name in ("dot_general", "conv_general_dilated"):
      yield equation, 1
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from all_products(inner)


def test_another_precision_is_refused():
  config = configure("float32", {"matmul_precision": "tf32"})
  with pytest.raises(InputError, match=r"matmul_precision.*highest.*tf32"):
    build.build_segmenter(config, output_size=(SIDE, SIDE))
