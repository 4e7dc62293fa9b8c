"""Maps with margins against the reference's zonal inference."""

import jax
import numpy as np
import pytest

from flairhub_jax.configs import base
from flairhub_jax.mapping import engine, examples, inputs, layout, network
from flairhub_jax.models import build
from flairhub_jax.weights import reference
from tests.mapping import regions
from tests.parity import origin as reference_numbers

EQUAL_SHARE = 0.999
FILES = {
  "AERIAL_RGBI": inputs.Named("aerial.tif"),
  "SENTINEL2_TS": inputs.Named("s2.tif", "s2_dates.txt"),
}


@pytest.fixture(scope="module")
def numbers():
  if "shared" not in reference_numbers.ORIGINS:
    pytest.skip("needs ../shared (numbers of large networks)")
  return reference_numbers.ORIGINS["shared"]


def build_config(settings):
  config = base.get_config()
  given = settings["config"]
  config.model.encoder, config.model.decoder = given["monotemp_arch"].split("-")
  config.data.modalities = tuple(
    name for name, is_used in given["modalities"]["inputs"].items() if is_used
  )
  config.data.tasks = (regions.COSIA,)
  config.data.cloud_filter.enabled = False
  config.data.date_buckets = (8,)
  return config


def fixture_weights(numbers, segmenter, batch):
  """Variables by the rule of the fixtures."""
  shape = build.variables_shape(segmenter, batch)
  keys = reference.to_reference(
    jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shape)
  )
  tensors = {
    key: numbers.rule.make_param(key, x.shape, x.dtype)
    for key, x in keys.items()
  }
  return reference.from_reference(tensors, shape)


def predict(numbers, name):
  """Classes and probabilities of a map as the reference's settings say."""
  settings = numbers.settings(f"e2e/{name}")
  config, given = build_config(settings), settings["config"]
  folder = numbers.folder / "zonaldata"
  opened = inputs.open_inputs(
    config.schema,
    config.data.modalities,
    {
      sensor: inputs.Named(
        str(folder / FILES[sensor].raster),
        FILES[sensor].dates and str(folder / FILES[sensor].dates),
      )
      for sensor in config.data.modalities
    },
  )
  plan = layout.plan(
    opened,
    window=given["img_pixels_detection"],
    margin=given["margin"],
    resolution=given["output_px_meters"],
    as_they_are=("SENTINEL2_TS",),
  )
  reader = examples.Reader(config, opened, plan)
  model = build.build_segmenter(config, output_size=plan.logits)
  example = examples.stack([reader.nothing()])
  variables = fixture_weights(numbers, model, example)
  program = network.WindowNetwork(
    model, variables, example, plan, batch_size=given["batch_size"]
  )
  layers = engine.Layers({regions.COSIA: tuple(range(19))})
  size = plan.grid.height, plan.grid.width
  classes = np.full(size, 255, np.uint8)
  probabilities = np.full((size[0], 19, size[1]), 255, np.uint8)

  def write(first, found):
    rows = found[f"{regions.COSIA}.classes"]
    classes[first : first + len(rows)] = rows[:, 0]
    rows = found[f"{regions.COSIA}.probabilities"]
    probabilities[first : first + len(rows)] = rows

  engine.run(program, reader, plan, layers, {regions.COSIA: 19}, write=write)
  inputs.close(opened)
  return classes, np.moveaxis(probabilities, 1, 0)


def expected(numbers, name):
  (values,) = numbers.arrays(f"e2e/{name}").values()
  return values


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["zonal_lca_argmax", "zonal_lcd_argmax", "zonal_lca_argmax_up"]
)
def test_classes_with_margins_equal_the_references(numbers, name):
  classes, _ = predict(numbers, name)
  assert (classes == expected(numbers, name)[0]).mean() >= EQUAL_SHARE


@pytest.mark.slow
def test_probabilities_with_margins_equal_the_references(numbers):
  name = "zonal_lca_prob_rescaled"
  _, actual = predict(numbers, name)
  # Ours are in steps of 1/250, the reference's of 1/255.
  steps = np.abs(actual * (255 / 250) - expected(numbers, name))
  assert (steps <= 1.01).mean() >= EQUAL_SHARE
