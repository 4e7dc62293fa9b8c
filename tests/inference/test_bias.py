"""Class biases: words, logits."""

import jax
import numpy as np
import pytest

from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.inference import bias
from flairhub_jax.models import build, initialise
from tests import tiny

COSIA, CROPS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"
TASKS = {name: FLAIR_HUB.tasks[name] for name in (COSIA, CROPS)}


def test_words_become_numbers_by_class():
  actual = bias.parse(
    [f"{COSIA}:water=-1.5", f"{CROPS}:flax/hemp/tobacco=2", f"{COSIA}:snow=1"],
    TASKS,
  )
  assert actual == {
    COSIA: {"water": -1.5, "snow": 1.0},
    CROPS: {"flax/hemp/tobacco": 2.0},
  }
  (_, cover), (_, crops) = bias.by_class(actual, TASKS)
  assert len(cover) == 19 and cover[6:8] == (-1.5, 1.0)
  assert sum(map(abs, cover)) == 2.5 and crops[6] == 2
  assert bias.describe(actual, COSIA) == "; bias of water -1.5, snow +1"
  assert bias.describe({}, COSIA) == ""


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["water=1"], "expected TASK:CLASS=VALUE, found 'water=1'"),
    ([f"{COSIA}:water"], "expected TASK:CLASS=VALUE"),
    (["ROOFS:water=1"], "expected a task of AERIAL.*found 'ROOFS'"),
    ([f"{COSIA}:lava=1"], "expected a class of building, .*found 'lava'"),
    ([f"{COSIA}:water=much"], "water: expected a number up to 1e.06"),
    ([f"{COSIA}:water=nan"], "expected a number"),
    ([f"{COSIA}:water=inf"], "expected a number"),
    (
      [f"{COSIA}:water=1", f"{COSIA}:water=2"],
      "'water' once, found a repetition",
    ),
  ],
)
def test_invalid_options_are_one_line(options, message):
  with pytest.raises(InputError, match=message):
    bias.parse(options, TASKS)


def test_a_bias_is_added_to_the_logits_of_its_class():
  config = tiny.get_config()
  config.data.modalities = ("SENTINEL2_TS",)
  config.inputs.SENTINEL2_TS.num_dates = 2
  model = build.build_segmenter(config, output_size=(10, 10))
  shapes = build.input_shapes(config)
  variables = initialise.init_variables(model, shapes, seed=0)
  batch = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
  given = bias.parse([f"{COSIA}:snow=0.5"], TASKS)
  biased = model.clone(class_bias=bias.by_class(given, TASKS))
  plain, actual = (
    jax.jit(network.apply)(variables, batch)["logits"]
    for network in (model, biased)
  )
  assert plain.keys() == actual.keys() == set(config.data.tasks)
  expected = np.zeros(19, np.float32)
  expected[7] = 0.5
  np.testing.assert_allclose(
    actual[COSIA] - plain[COSIA], np.broadcast_to(expected, (1, 10, 10, 19)),
    atol=1e-6,
  )  # fmt: skip
  np.testing.assert_array_equal(actual[CROPS], plain[CROPS])
