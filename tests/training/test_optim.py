import re

import jax
import numpy as np
import optax
import pytest

from flairhub_jax.configs import base
from flairhub_jax.errors import InputError
from flairhub_jax.training import optim


def test_one_cycle_equals_torchs_at_every_step(origin):
  fixture = origin.arrays("units/lr_schedules")
  compared = 0
  for key in fixture:
    match = re.fullmatch(r"(?:onecycle|warmup)_(\d+)_p(.*)", key)
    if not match:
      continue
    num_steps = int(match[1])
    schedule = optim.one_cycle(
      num_steps,
      5e-5,
      warmup_fraction=float(match[2]),
      div_factor=1e3,
      final_div_factor=1e4,
    )
    rates = np.array([schedule(step) for step in range(num_steps)])
    # float32 against float64: absolute to 1e-6 of the peak.
    np.testing.assert_allclose(rates, fixture[key], rtol=2e-5, atol=5e-11)
    compared += 1
  assert compared == 5


@pytest.mark.parametrize("num_steps", [1, 2, 3, 5])
def test_one_cycle_is_finite_for_very_short_runs(num_steps):
  schedule = optim.one_cycle(
    num_steps, 1.0, warmup_fraction=0.2, div_factor=10, final_div_factor=10
  )
  rates = np.array([schedule(step) for step in range(num_steps)])
  assert np.isfinite(rates).all() and (rates <= 1 + 1e-6).all()


SCHEDULES = (
  "one_cycle", "cosine", "constant", "reduce_on_plateau", "cycle_then_plateau",
)  # fmt: skip


def settings(**changes):
  """The section `optim` of a configuration."""
  optim_settings = base.get_config().optim
  optim_settings.update(learning_rate=0.1, **changes)
  return optim_settings


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("num_steps", [1, 3, 50])
def test_schedules_stay_between_zero_and_the_peak(name, num_steps):
  _, schedule = optim.build_optimizer(settings(schedule=name), num_steps)
  rates = np.array([schedule(step) for step in range(num_steps)])
  assert np.isfinite(rates).all()
  assert (rates >= 0).all() and (rates <= 0.1 * (1 + 1e-6)).all()


def test_cosine_rises_straight_and_ends_at_zero():
  _, schedule = optim.build_optimizer(settings(schedule="cosine"), 50)
  rates = np.array([schedule(step) for step in range(51)])
  np.testing.assert_allclose(rates[:11], np.linspace(0, 0.1, 11), atol=1e-7)
  np.testing.assert_allclose(rates[30], 0.05, rtol=1e-5)
  assert rates[50] < 1e-8


def test_the_rise_before_a_plateau_equals_torchs(origin):
  fixture = origin.arrays("units/lr_schedules")
  changes = dict(schedule="cycle_then_plateau", warmup_fraction=0.2)
  section = settings(**changes)
  section.learning_rate = 5e-5
  _, schedule = optim.build_optimizer(section, 100)
  rates = np.array([schedule(step) for step in range(100)])
  expected = fixture["warmup_20_p1.0"]
  np.testing.assert_allclose(rates[:20], expected, rtol=2e-5, atol=5e-11)
  np.testing.assert_allclose(rates[20:], 5e-5, rtol=1e-6)
  assert not optim.has_plateau(section, 19, 100)
  assert optim.has_plateau(section, 20, 100)


def test_a_plateau_reduces_the_rate_as_torchs(origin):
  fixture = origin.arrays("units/lr_schedules")
  section = settings(schedule="reduce_on_plateau")
  section.learning_rate = 5e-5
  section.plateau.patience = 3
  plateau, rates = optim.no_plateau(), []
  for loss in fixture["plateau_val_loss"]:
    plateau = optim.after_validation(plateau, section, -loss)
    rates.append(5e-5 * plateau.factor)
  np.testing.assert_allclose(rates, fixture["plateau_lr_after"], rtol=1e-6)
  assert len(set(rates)) > 3


# ---- updates, against what torch documents -----------------------------------

PARAMS = {
  "encoder_DEM_ELEV": {"stem": {"w": np.array([1.0, -2.0], np.float32)}}
}
OTHER = {"fusion": {"w": np.array([3.0], np.float32)}}
GRADIENTS = [np.array([0.5, 0.1]), np.array([-0.2, 0.4]), np.array([0.3, 0.0])]


def updated(section, params=PARAMS, gradients=GRADIENTS):
  """Parameters after a step for each gradient."""
  section.schedule = "constant"
  optimizer, _ = optim.build_optimizer(section, len(gradients))
  state = optimizer.init(params)
  assert not any(map(np.any, jax.tree.leaves(state))), "init_state: zeros"
  for gradient in gradients:
    tree = jax.tree.map(np.zeros_like, params)
    tree["encoder_DEM_ELEV"]["stem"]["w"] = gradient.astype(np.float32)
    changes, state = optimizer.update(tree, state, params)
    params = optax.apply_updates(params, changes)
  return params


def by_hand(name, rate=0.1, decay=0.01, beta1=0.9, beta2=0.999):
  w, m, v = PARAMS["encoder_DEM_ELEV"]["stem"]["w"].astype(float), 0.0, 0.0
  for step, gradient in enumerate(GRADIENTS, 1):
    if name == "sgd":
      w = w - rate * gradient
      continue
    if name == "lion":
      change = np.sign(beta1 * m + (1 - beta1) * gradient)
      m = beta2 * m + (1 - beta2) * gradient
      w = w - rate * (change + decay * w)
      continue
    if name == "adam":
      gradient = gradient + decay * w
    m = beta1 * m + (1 - beta1) * gradient
    v = beta2 * v + (1 - beta2) * gradient**2
    epsilon = 1e-6 if name == "lamb" else 1e-8
    root = np.sqrt(v / (1 - beta2**step)) + epsilon
    change = m / (1 - beta1**step) / root
    if name != "adam":
      change = change + decay * w
    if name == "lamb":
      change *= np.linalg.norm(w) / np.linalg.norm(change)
    w = w - rate * change
  return w


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lamb", "lion"])
def test_updates_of_each_optimiser(name):
  params = updated(settings(name=name))
  actual = params["encoder_DEM_ELEV"]["stem"]["w"]
  np.testing.assert_allclose(actual, by_hand(name), rtol=1e-5)


def test_momentum_and_clipping():
  actual = updated(settings(name="sgd", momentum=0.9))
  total = GRADIENTS[0] * 2.71 + GRADIENTS[1] * 1.9 + GRADIENTS[2]
  np.testing.assert_allclose(
    actual["encoder_DEM_ELEV"]["stem"]["w"], [1, -2] - 0.1 * total, rtol=1e-5
  )
  actual = updated(settings(name="sgd", clip_norm=0.1))
  total = sum(0.1 * g / max(0.1, np.linalg.norm(g)) for g in GRADIENTS)
  np.testing.assert_allclose(
    actual["encoder_DEM_ELEV"]["stem"]["w"], [1, -2] - 0.1 * total, rtol=1e-5
  )


def test_rates_differ_over_the_network():
  section = settings(layer_decay=0.5)
  section.encoder_rates.AERIAL_RGBI = 0.1
  section.encoder_rates.SENTINEL2_TS = 0.3
  expected = {
    ("decoder_AERIAL_LABEL-COSIA", "head"): 1.0,
    ("fusion", "kernel_0"): 1.0,
    ("encoder_AERIAL_RGBI", "stage_3_block_1"): 0.05,
    ("encoder_AERIAL_RGBI", "merge_3_norm"): 0.05,
    ("encoder_AERIAL_RGBI", "stage_0_block_0"): 0.1 / 16,
    ("encoder_AERIAL_RGBI", "patch_embedding"): 0.1 / 32,
    ("encoder_SPOT_RGBI", "layer_4_block_2"): 0.5,
    ("encoder_SPOT_RGBI", "stem_conv_norm"): 1 / 32,
    ("encoder_SENTINEL2_TS", "down_1"): 0.3,
    ("encoder_early", "stage_3_block_0"): 0.5,
  }
  series = ("SENTINEL2_TS",)
  actual = {p: optim.rate_factor(p, section, series) for p in expected}
  assert actual == pytest.approx(expected)


def test_a_frozen_encoder_stays():
  section = settings()
  section.encoder_rates.DEM_ELEV = 0.0
  params = updated(section)
  jax.tree.map(np.testing.assert_array_equal, params, PARAMS)
  gradient = jax.grad(
    lambda params: sum(
      x.sum() for x in jax.tree.leaves(optim.freeze(params, section))
    )
  )(PARAMS | OTHER)
  assert gradient["encoder_DEM_ELEV"]["stem"]["w"].tolist() == [0, 0]
  assert gradient["fusion"]["w"].tolist() == [1]


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("name", "adamv"),
    ("schedule", "two_cycles"),
  ],
)
def test_bad_settings_are_named(field, value):
  section = settings()
  section[field] = value
  with pytest.raises(InputError, match=f"config.optim.{field}"):
    optim.build_optimizer(section, 10)
