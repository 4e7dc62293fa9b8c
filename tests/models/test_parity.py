"""Whole networks and training steps against the reference's numbers."""

import functools

import jax
import numpy as np
import optax
import pytest

from flairhub_jax.configs import base
from flairhub_jax.training import optim
from flairhub_jax.weights import reference
from tests.models import parity

# Share of the logits' standard deviation; measured 3e-6 to 7e-6. A wrong GELU
# gives 6e-4, a wrong epsilon 5e-4.
BOUND = 3e-5

# At full size; small ones are those of test_numbers.py. Cases that are part of
# another (LC-D of LC-L) are measured by experiments/fidelity alone.
EVAL_CASES = (
  "lca_swin_tiny",
  "lca_swin_tiny_320",
  "lca_swin_tiny_faint",
  "lca_convnextv2_tiny_upernet",
  "lca_convnextv2_tiny_faint",
  "lcd_resnet34_unet",
  "lci_swin_tiny_spot",
  "lcl_swin_tiny",
  "lcg_utae",
  "lch_utae",
  "multitask_aux_swin_tiny",
  "multitask_utae_only",
)
# Case -> what rounding alone does to a gradient's norm, relative, as the
# fixtures state it (a float32 against a float64 run of the reference).
TRAIN_CASES = {
  ("own", "train_series"): 2e-4,
  ("own", "train_resnet18_unet"): 2e-3,
  ("shared", "train_lcd_swin_tiny"): 2e-4,
}
# Of the loss before each step, relative. Adam turns gradients that are only
# rounding into full steps: weights changed by 1e-7 move the reference's own
# losses by 3e-6, 2e-4 and 1e-3.
LOSS_BOUNDS = (3e-6, 3e-5, 1e-3, 5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVAL_CASES)
@pytest.mark.parametrize("origin", ["shared"], indirect=True)
def test_logits_equal_the_references(name, origin):
  case = parity.load_case(origin, name)
  segmenter, variables, batch = case.network()
  forward = functools.partial(parity.forward, segmenter)
  outputs, between = jax.jit(forward)(variables, batch)
  actual = parity.flat_outputs(outputs)
  expected = [k for k in case.numbers if k.split("/")[0] in ("logits", "aux")]
  assert sorted(actual) == sorted(expected)
  for key, x in actual.items():
    std = case.numbers[f"stats/{key}"][1]
    np.testing.assert_allclose(
      x[..., ::16, ::16], case.numbers[key], rtol=0, atol=BOUND * std
    )
    np.testing.assert_allclose(
      case.rule.stats(x), case.numbers[f"stats/{key}"], rtol=0, atol=BOUND * std
    )
    if key.startswith("logits/"):
      classes = case.numbers[key.replace("logits", "argmax")]
      assert (x.argmax(1)[:, ::4, ::4] == classes).mean() > 0.9999
  assert_blocks_close(case, parity.flat_blocks(between))


def assert_blocks_close(case, blocks):
  """Every map between that the fixture has a sample of."""
  prefixes = ("feat", "attn", "utae_logits", "fused", "decoder")
  names = {k for k in case.numbers if k.split("/")[0] in prefixes}
  # What goes in, and the mean of logits, are no modules of ours.
  names -= {f"feat/{m}/0" for m in case.settings["modalities"]} - blocks.keys()
  # Nor are an image's level of fusion, and logits that nothing reads.
  missing = names - blocks.keys()
  assert missing <= {"fused/0"} | {k for k in names if "utae_logits" in k}
  auxiliary = case.settings["aux_losses"]
  assert not any(k.split("/")[1] in auxiliary for k in missing)
  for key in sorted(names & blocks.keys()):
    actual = case.rule.sample(blocks[key], case.numbers[key].size)
    # A group of U-TAE's closing norm that is nearly all zero magnifies
    # rounding, so that this is three times what the logits keep to.
    bound = 1e-4 * case.numbers[key].std()
    np.testing.assert_allclose(
      actual, case.numbers[key], rtol=0, atol=bound, err_msg=key
    )


def assert_gradients_close(case, gradients, keys, norms, noise):
  """Norms and samples of all gradients, within three times their noise."""
  tensors = reference.to_reference({"params": gradients})
  total = np.sqrt(np.nansum(np.square(norms)))
  by_key = dict(zip(keys, norms, strict=True))
  # The loss of these fixtures has no auxiliary part.
  without = {k for k, norm in by_key.items() if np.isnan(norm)}
  auxiliary = {k for k in without if k.startswith("aux_decoders.")}
  # What our network lacks has no gradient in the reference either.
  lacking = set(by_key) - set(tensors)
  assert set(tensors) <= set(by_key)
  assert lacking <= without <= lacking | auxiliary
  for key, tensor in tensors.items():
    actual = np.linalg.norm(tensor.astype(np.float64))
    expected = 0.0 if key in auxiliary else by_key[key]
    bound = 3 * noise * expected + 1.5e-4 * total
    assert abs(actual - expected) < bound, (key, actual, expected)
  samples = [k for k in case.numbers if k.startswith("grad/")]
  for key in samples:
    expected = case.numbers[key]
    actual = tensors[key.removeprefix("grad/")]
    actual = case.rule.sample(actual, expected.size)
    # One value near the edge of a ReLU can move single numbers.
    bound = 15 * noise * np.abs(expected).max() + 5e-5 * total
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


def losses_before_steps(case, step, params, number):
  """The loss before each of several updates with AdamW."""
  settings = base.get_config().optim
  settings.schedule = "constant"
  settings.learning_rate = case.settings["optimizer"]["lr"]
  settings.weight_decay = case.settings["optimizer"]["weight_decay"]
  optimizer, _ = optim.build_optimizer(settings, number)

  @jax.jit
  def update(params, state, gradients):
    with jax.numpy_dtype_promotion("standard"):  # as optax needs it
      updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  state, losses = optimizer.init(params), []
  for _ in range(number):
    (loss, _), gradients = step(params)
    params, state = update(params, state, gradients)
    losses.append(float(loss))
  return losses


@pytest.mark.slow
@pytest.mark.parametrize(
  ("origin", "name", "noise"),
  [(*case, noise) for case, noise in TRAIN_CASES.items()],
  indirect=["origin"],
)
def test_training_steps_equal_the_references(origin, name, noise):
  case = parity.load_case(origin, name)
  utae = dict(attention_dropout=0.0, mlp_dropout=0.0)
  segmenter, variables, batch = case.network(drop_path_rate=0.0, utae=utae)
  labels = {task: case.array(task) for task in case.settings["labels"]}

  def loss_fn(params):
    outputs, updates = segmenter.apply(
      variables | {"params": params},
      batch,
      train=True,
      rngs={"dropout": jax.random.key(0)},
      mutable=["batch_stats"],
    )
    loss = parity.weighted_loss(outputs, labels, case.settings["class_weights"])
    return loss, updates["batch_stats"]

  step = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
  (_, batch_stats), gradients = step(variables["params"])
  expected = case.settings["losses_before_each_step_and_after_last"]
  losses = losses_before_steps(case, step, variables["params"], len(expected))
  errors = np.abs(losses / np.array(expected) - 1)
  assert (errors < LOSS_BOUNDS).all(), errors
  keys = case.numbers["grad_norm_keys"].tolist()
  assert_gradients_close(
    case, gradients, keys, case.numbers["grad_norms"], noise
  )
  running = reference.to_reference({"batch_stats": batch_stats})
  for key in (k for k in case.numbers if k.startswith("bn/")):
    unused = key.removeprefix("bn/") not in running
    assert not unused or "out_conv" in key or "fpn_stages.4" in key, key
    if not (unused or key.endswith("tracked")):
      np.testing.assert_allclose(
        running[key.removeprefix("bn/")].ravel(),
        case.numbers[key].ravel(),
        rtol=2e-5,
        atol=2e-5,
      )
