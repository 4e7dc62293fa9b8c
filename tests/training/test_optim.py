import re

import ml_collections
import numpy as np
import pytest

from flairhub_jax.errors import InputError
from flairhub_jax.training import optim


def test_one_cycle_equals_torchs_at_every_step(shared):
  fixture = np.load(shared / "parity/units/lr_schedules.npz")
  compared = 0
  for key in fixture.files:
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


@pytest.mark.parametrize(
  ("field", "value"), [("name", "adamv"), ("learning_rate", float("nan"))]
)
def test_bad_settings_are_named(field, value):
  settings = ml_collections.ConfigDict(
    dict(
      name="adamw",
      learning_rate=1e-3,
      weight_decay=0.01,
      beta1=0.9,
      beta2=0.999,
      warmup_fraction=0.2,
      div_factor=10.0,
      final_div_factor=10.0,
    )
  )
  settings[field] = value
  with pytest.raises(InputError, match=f"config.optim.{field}"):
    optim.build_optimizer(settings, 10)
