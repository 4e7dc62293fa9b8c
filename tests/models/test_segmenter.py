"""The whole network on small inputs: shapes, absence, padding, errors."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from flairhub_jax import errors
from flairhub_jax.configs import base
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build, initialise

COSIA, LPIS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"
AERIAL, DEM, S2 = "AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS"
S1 = "SENTINEL1-ASC_TS"


def small_config(*chosen: str) -> ml_collections.ConfigDict:
  config = base.get_config()
  config.data.modalities = chosen
  config.model.encoder = "swin_nano"
  config.model.decoder = "upernet_nano"
  config.model.utae.encoder_widths = (16, 16)
  config.model.utae.decoder_widths = (16, 16)
  config.model.utae.head_widths = (8, 19)
  config.model.utae.num_heads = 4
  config.model.utae.attention_width = 16
  return config


def random_batch(sizes, num_dates=4, samples=2, seed=0):
  """Stored values of each modality; a number is a square's side."""
  rng = np.random.default_rng(seed)
  batch = {"inputs": {}, "dates": {}, "valid": {}}
  for modality, size in sizes.items():
    row = FLAIR_HUB.sensors[modality]
    size = (size, size) if isinstance(size, int) else size
    shape = (samples, *size, len(row.bands))
    if row.is_series:
      shape = (samples, num_dates, *size, len(row.bands))
      dates = rng.integers(-100, 200, (samples, num_dates))
      batch["dates"][modality] = np.sort(dates).astype(np.int32)
      batch["valid"][modality] = np.ones((samples, num_dates), bool)
    values = rng.uniform(1, 250, shape)
    batch["inputs"][modality] = values.astype(row.dtype)
  return batch


def start(config, batch, output_size, **options):
  """A network, its variables and its compiled forward pass."""
  segmenter = build.build_segmenter(config, output_size=output_size, **options)
  variables = initialise.init_variables(segmenter, batch, seed=1)
  forward = jax.jit(segmenter.apply)
  return segmenter, variables, lambda batch: forward(variables, batch)


def changed(batch, kind, modality, value):
  """The batch with one array replaced."""
  return batch | {kind: batch.get(kind, {}) | {modality: value}}


def assert_all_equal(first, second, atol=0.0):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol),
    first,
    second,
  )


@pytest.fixture(scope="module")
def network():
  """Two images, a series, two tasks, auxiliary decoders."""
  config = small_config(S2, DEM, AERIAL)
  config.data.tasks = (COSIA, LPIS)
  config.model.auxiliary = (AERIAL, S2, S1)
  sizes = {AERIAL: 64, DEM: 64, S2: 10}
  batch = random_batch(sizes)
  present = {m: np.ones(2, bool) for m in sizes}
  batch["present"] = present
  return *start(config, batch, (64, 64)), batch


@pytest.fixture(scope="module")
def outputs(network):
  *_, forward, batch = network
  return forward(batch)


def test_outputs_have_the_promised_shapes(outputs):
  for task, classes in ((COSIA, 19), (LPIS, 23)):
    logits = [outputs["logits"][task]]
    logits += [outputs["aux"][modality][task] for modality in (AERIAL, S2)]
    for x in logits:
      assert x.shape == (2, 64, 64, classes)
      assert x.dtype == jnp.float32
      assert np.isfinite(x).all()
  assert set(outputs["aux"]) == {AERIAL, S2}


def test_modules_are_named_after_what_they_serve(network):
  _, variables, _, _ = network
  assert set(variables["params"]) == {
    *(f"encoder_{m}" for m in (AERIAL, DEM, S2)),
    "fusion",
    *(f"decoder_{t}" for t in (COSIA, LPIS)),
    *(f"auxiliary_{m}__{t}" for m in (AERIAL, S2) for t in (COSIA, LPIS)),
  }
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    is_count = path[-1].key == "count"
    assert leaf.dtype == (jnp.int32 if is_count else jnp.float32)


def test_without_presence_everything_is_present(network, outputs):
  segmenter, variables, _, batch = network
  batch = {k: v for k, v in batch.items() if k != "present"}
  forward = jax.jit(segmenter.apply)
  assert_all_equal(forward(variables, batch), outputs, atol=1e-5)


def test_an_absent_modality_leaves_no_trace(network, outputs):
  *_, forward, batch = network
  gone = changed(batch, "present", DEM, np.array([True, False]))
  first = forward(gone)["logits"][COSIA]
  other = changed(gone, "inputs", DEM, batch["inputs"][DEM] * 3 + 7)
  second = forward(other)["logits"][COSIA]
  np.testing.assert_array_equal(first[1], second[1])
  assert np.abs(first[0] - second[0]).max() > 1e-4
  whole = outputs["logits"][COSIA]
  np.testing.assert_array_equal(first[0], whole[0])
  assert np.abs(first[1] - whole[1]).max() > 1e-4


def test_a_series_without_valid_dates_gives_finite_logits(network):
  *_, forward, batch = network
  valid = batch["valid"][S2].copy()
  valid[1] = False
  first = forward(changed(batch, "valid", S2, valid))
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(first))


def pair_config():
  """An image and a series, each with an auxiliary decoder."""
  config = small_config(AERIAL, S2)
  config.model.auxiliary = (AERIAL, S2)
  return config


@pytest.fixture(scope="module")
def pair():
  batch = random_batch({AERIAL: 64, S2: 10})
  return *start(pair_config(), batch, (64, 64)), batch


@pytest.fixture(scope="module")
def training(pair):
  """Loss, new statistics and gradients as a function of a seed."""
  segmenter, variables, _, batch = pair

  def loss_fn(params, rng):
    outputs, updates = segmenter.apply(
      variables | {"params": params},
      batch,
      train=True,
      rngs={"dropout": rng},
      mutable=["batch_stats"],
    )
    total = sum(jnp.square(x).mean() for x in jax.tree.leaves(outputs))
    return total, updates["batch_stats"]

  step = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
  return lambda seed: step(variables["params"], jax.random.key(seed))


def test_training_reaches_every_parameter(pair, training):
  (loss, stats), gradients = training(0)
  assert np.isfinite(loss)
  for path, leaf in jax.tree_util.tree_flatten_with_path(gradients)[0]:
    assert np.isfinite(leaf).all(), path
    assert np.any(leaf), path
  before = pair[1]["batch_stats"]
  moved = jax.tree.map(lambda x, y: bool(np.any(x != y)), stats, before)
  for path, leaf in jax.tree_util.tree_flatten_with_path(moved)[0]:
    assert leaf, path


def test_dropout_follows_its_key(training):
  first, second, other = training(0), training(0), training(1)
  assert first[0][0] == second[0][0]
  assert first[0][0] != other[0][0]


@pytest.mark.parametrize("aggregation", ["att_group", "att_mean", "mean"])
def test_padded_dates_have_no_influence(aggregation):
  config = small_config(S2)
  config.model.utae.aggregation = aggregation
  padded = random_batch({S2: 10}, num_dates=8)
  padded["valid"][S2][:, 5:] = False
  # Whatever lies on padded dates, even what is not a number.
  short = {kind: {S2: arrays[S2][:, :5]} for kind, arrays in padded.items()}
  padded["inputs"][S2] = padded["inputs"][S2].astype(np.float32)
  padded["inputs"][S2][:, 5:] = np.nan
  _, _, forward = start(config, padded, (10, 10))
  assert_all_equal(forward(padded), forward(short), atol=2e-6)
  none = changed(padded, "valid", S2, np.zeros((2, 8), bool))
  assert np.isfinite(forward(none)["logits"][COSIA]).all()


def test_series_alone_average_what_is_present():
  config = small_config(S2, S1)
  config.data.tasks = (COSIA, LPIS)
  batch = random_batch({S2: 10, S1: 10})
  batch["present"] = {m: np.ones(2, bool) for m in (S2, S1)}
  _, variables, forward = start(config, batch, (40, 40))
  assert forward(batch)["logits"][LPIS].shape == (2, 40, 40, 23)
  assert "fusion" not in variables["params"]
  gone = changed(batch, "present", S1, np.array([True, False]))
  other = changed(gone, "inputs", S1, batch["inputs"][S1] * 5)
  first, second = forward(gone)["logits"], forward(other)["logits"]
  np.testing.assert_array_equal(first[COSIA][1], second[COSIA][1])


def test_any_size_of_image_is_mapped():
  config = small_config(AERIAL, DEM)
  batch = random_batch({AERIAL: (50, 71), DEM: (31, 90)}, samples=1)
  _, _, forward = start(config, batch, (50, 71))
  logits = forward(batch)["logits"][COSIA]
  assert logits.shape == (1, 50, 71, 19)
  assert np.isfinite(logits).all()


def change(path, value):
  """A test case: which field, set to what."""
  return pytest.param(path, value, id=f"{path}={value}")


@pytest.mark.parametrize(
  ("path", "value"),
  [
    change("model.encoder", "resnet"),
    change("model.decoder", "fcn"),
    change("fusion.kind", "early_guess"),
    change("model.auxiliary", ("AERIAL",)),
    change("data.modalities", ("AERIAL",)),
    change("data.modalities", ()),
    change("data.modalities", (AERIAL, AERIAL)),
    change("data.tasks", ("COSIA",)),
    change("data.tasks", ()),
    change("inputs.AERIAL_RGBI.bands", ("SWIR",)),
    change("inputs.AERIAL_RGBI.bands", ()),
    change("inputs.AERIAL_RGBI.std", {}),
    change("inputs.AERIAL_RGBI.mean", {"R": 1.0}),
    change("model.utae.aggregation", "max"),
    change("model.utae.encoder_norm", "layer"),
    change("model.utae.padding_mode", "mirror"),
    change("model.utae.decoder_widths", (16,)),
  ],
)
def test_a_name_that_does_not_exist_is_an_error(path, value):
  config = (
    small_config(S2) if "decoder_widths" in path else small_config(AERIAL)
  )
  *folders, leaf = path.split(".")
  node = config
  for folder in folders:
    node = node[folder]
  if isinstance(value, dict):
    value = ml_collections.ConfigDict(value)
  node[leaf] = value
  with pytest.raises(errors.InputError) as error:
    build.build_segmenter(config, output_size=(64, 64))
  where = str(error.value).split(":")[0]
  assert where in (f"config.{path}", f"config.{'.'.join(folders)}")
