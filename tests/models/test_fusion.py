"""Every fusion strategy: sets of modalities and missing modalities."""

import flax.errors
import jax
import numpy as np
import pytest

from flairhub_jax import errors
from flairhub_jax.configs import base
from flairhub_jax.models import build, fusion, initialise
from tests.models.test_segmenter import (
  AERIAL,
  COSIA,
  DEM,
  LPIS,
  S1,
  S2,
  random_batch,
  small_config,
)

KINDS = tuple(build.FUSIONS)
SETS = {
  "one image": (AERIAL,),
  "one series": (S2,),
  "images": (AERIAL, DEM),
  "series": (S2, S1),
  "images and series": (AERIAL, DEM, S2),
}


def network_of(kind, chosen, **dropout):
  """A network of two tasks that reads `chosen`, and a batch of two."""
  config = small_config(*chosen)
  config.fusion.kind = kind
  config.data.tasks = (COSIA, LPIS)
  config.model.auxiliary = chosen[:1]
  config.fusion.modality_dropout.update(dropout)
  sides = {AERIAL: 32, DEM: 32, S2: 10, S1: 10}
  batch = random_batch({m: sides[m] for m in chosen}, num_dates=3)
  return build.build_segmenter(config, output_size=(32, 32)), batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chosen", SETS.values(), ids=list(SETS))
def test_every_strategy_reads_every_set(kind, chosen):
  segmenter, batch = network_of(kind, chosen)
  key = jax.random.key(0)
  outputs, _ = jax.eval_shape(
    lambda: segmenter.init_with_output(key, batch, train=False)
  )
  assert {task: x.shape for task, x in outputs["logits"].items()} == {
    COSIA: (2, 32, 32, 19),
    LPIS: (2, 32, 32, 23),
  }
  expected = set() if kind == "early" else {chosen[0]}
  assert set(outputs["aux"]) == expected


@pytest.fixture(scope="module", params=KINDS)
def mixed(request):
  """A strategy's network of two images and a series, compiled once."""
  segmenter, batch = network_of(request.param, SETS["images and series"])
  variables = initialise.init_variables(segmenter, batch, seed=1)
  # Gates start at zero; random values give them an effect.
  rng = np.random.default_rng(0)
  variables["params"] = jax.tree.map(
    lambda x: x + 0.05 * rng.standard_normal(x.shape).astype(np.float32),
    variables["params"],
  )
  forward = jax.jit(segmenter.apply)
  everywhere = {m: np.ones(2, bool) for m in SETS["images and series"]}
  batch["present"] = everywhere
  # Of one type whether changed or not.
  batch["inputs"] = {
    m: x.astype(np.float32) for m, x in batch["inputs"].items()
  }
  return variables, forward, batch


def without(batch, modality, factor=1.0):
  """The second sample lacks a modality, whose values are changed."""
  present = batch["present"] | {modality: np.array([True, False])}
  inputs = batch["inputs"] | {modality: batch["inputs"][modality] * factor}
  return batch | {"present": present, "inputs": inputs}


@pytest.mark.parametrize("modality", [AERIAL, S2])
def test_an_absent_modality_has_exactly_no_influence(mixed, modality):
  variables, forward, batch = mixed
  first = forward(variables, without(batch, modality))["logits"][COSIA]
  other = forward(variables, without(batch, modality, -3.0))["logits"][COSIA]
  # Exact also for strategies that insert zeros or a learned value.
  np.testing.assert_array_equal(first[1], other[1])
  assert np.abs(first[0] - other[0]).max() > 1e-5
  whole = forward(variables, batch)["logits"][COSIA]
  assert np.abs(whole[1] - first[1]).max() > 1e-5
  assert np.isfinite(first).all()


def test_a_sample_without_anything_stays_finite(mixed):
  variables, forward, batch = mixed
  present = {m: np.array([True, False]) for m in batch["present"]}
  outputs = forward(variables, batch | {"present": present})
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(outputs))


@pytest.mark.parametrize("kind", ["early", "mid_concat"])
def test_encoded_modalities_may_come_in_any_order(kind):
  segmenter, batch = network_of(kind, (AERIAL, S2, S1))
  variables = initialise.init_variables(segmenter, batch, seed=1)

  @jax.jit
  def decode_twice(variables, batch):
    encoded = segmenter.apply(variables, batch, False, method="encode")
    return [
      segmenter.apply(
        variables,
        {m: encoded[m] for m in order},
        {},
        False,
        method="decode",
      )["logits"]
      for order in ((AERIAL, S2, S1), sorted((AERIAL, S2, S1)))
    ]

  expected, actual = decode_twice(variables, batch)
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_weights_are_shared_among_present_modalities():
  mask = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
  scores = np.array([[0.0, 5.0, 5.0], [np.log(3), 9.0, 9.0], [7.0, 7.0, 7.0]])
  weights = fusion.masked_softmax(scores.astype(np.float32), mask)
  expected = [[0.25, 1, 0], [0.75, 0, 0], [0, 0, 0]]
  np.testing.assert_allclose(weights, expected, atol=1e-6)
  mean = fusion.masked_mean(scores.astype(np.float32), mask)
  np.testing.assert_allclose(mean, [np.log(3) / 2, 5.0, 0.0], atol=1e-6)


def dropped(rates, there, seeds=200, samples=64):
  """Fraction of samples in which training drops each modality."""
  names = (AERIAL, DEM, S2)
  segmenter, _ = network_of("mid_mean", names, **rates)
  batch = {
    "inputs": {m: np.zeros((samples, 1)) for m in names},
  }
  present = {m: np.full(samples, m in there) for m in names}

  def draw(module):
    return module._drop_modalities(batch, present)

  @jax.jit
  @jax.vmap
  def run(seed):
    return segmenter.apply(
      {}, method=draw, rngs={"dropout": jax.random.key(seed)}
    )

  kept = run(np.arange(seeds))
  return {m: np.asarray(x).reshape(-1) for m, x in kept.items()}


def test_modalities_are_dropped_as_often_as_asked():
  kept = dropped({AERIAL: 0.5, DEM: 0.2}, {AERIAL, DEM, S2})
  # 12,800 draws: three standard deviations are 0.013.
  assert abs((~kept[AERIAL]).mean() - 0.5) < 0.014
  assert abs((~kept[DEM]).mean() - 0.2) < 0.014
  assert kept[S2].all()
  both = (~kept[AERIAL] & ~kept[DEM]).mean()
  assert abs(both - 0.1) < 0.014  # each by its own draw


def test_never_all_are_dropped():
  kept = dropped({AERIAL: 0.9, DEM: 0.9, S2: 0.9}, {AERIAL, DEM, S2})
  number = sum(x.astype(int) for x in kept.values())
  assert number.min() == 1
  # Where all three fall (0.729), each is kept as often: 0.9 - 0.729 / 3.
  for x in kept.values():
    assert abs((~x).mean() - 0.657) < 0.014


def test_dropout_never_keeps_only_an_absent_modality():
  kept = dropped({AERIAL: 0.9, DEM: 0.9, S2: 0.9}, {DEM})
  assert kept[DEM].all()
  assert not kept[AERIAL].any() and not kept[S2].any()


def test_dropout_is_off_in_evaluation():
  segmenter, batch = network_of("late_mean", (S2, S1), **{S2: 0.9, S1: 0.9})
  variables = initialise.init_variables(segmenter, batch, seed=0)
  # Without a key for dropout, drawing anything is an error.
  jax.eval_shape(segmenter.apply, variables, batch)
  with pytest.raises(flax.errors.InvalidRngError):
    jax.eval_shape(
      lambda v: segmenter.apply(v, batch, train=True, mutable=True), variables
    )


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan")])
def test_an_invalid_rate_is_refused(rate):
  with pytest.raises(errors.InputError, match=r"modality_dropout\.DEM_ELEV"):
    network_of("mid_mean", (AERIAL,), **{DEM: rate})


def test_weights_of_tasks_are_learned_if_asked():
  config = small_config(S2)
  config.data.tasks = (COSIA, LPIS)
  config.task_weighting = "uncertainty"
  batch = random_batch({S2: 10}, num_dates=3)
  segmenter = build.build_segmenter(config, output_size=(10, 10))
  variables = initialise.init_variables(segmenter, batch, seed=0)
  assert variables["params"][f"log_variance_{LPIS}"] == 0
  outputs = jax.eval_shape(segmenter.apply, variables, batch)
  assert set(outputs["log_variance"]) == {COSIA, LPIS}
  config.task_weighting = "learned"
  with pytest.raises(errors.InputError, match="fixed, uncertainty"):
    build.build_segmenter(config, output_size=(10, 10))


def test_options_of_a_strategy_reach_it():
  config = small_config(AERIAL, DEM, S2)
  sides = {AERIAL: 32, DEM: 32, S2: 10}
  batch = random_batch(sides, num_dates=3)

  def params():
    network = build.build_segmenter(config, output_size=(32, 32))
    return build.variables_shape(network, batch)["params"]

  config.fusion.kind = "mid_attention"
  config.fusion.mid_attention.update(num_heads=2, key_width=8)
  shapes = params()["fusion"]
  assert shapes["key_1"]["kernel"].shape[-1] == 16
  config.fusion.mid_attention.num_heads = 3
  with pytest.raises(errors.InputError, match="num_heads: expected a divisor"):
    params()
  config.fusion.kind = "early"
  sizes = []
  for periods in (12, 24):
    config.fusion.early.periods = periods
    sizes.append(sum(x.size for x in jax.tree.leaves(params())))
  # Twelve more images of ten bands enter patches of 4 x 4 pixels.
  width = params()["encoder_early"]["patch_embedding"]["kernel"].shape[-1]
  assert sizes[1] - sizes[0] == 12 * 10 * 4 * 4 * width


def test_every_option_of_a_strategy_is_a_field():
  sections = base.get_config().fusion
  for kind, both in build.FUSIONS.items():
    options = {name for chosen in both for name in chosen.options}
    assert set(sections.get(kind, {})) == options
