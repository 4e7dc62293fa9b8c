"""Maps with margins against the reference's zonal inference."""

import jax
import numpy as np
import pytest

from flairhub_jax.configs import base
from flairhub_jax.mapping import (
  engine,
  examples,
  inputs,
  layers,
  layout,
  network,
)
from flairhub_jax.models import build
from flairhub_jax.weights import reference
from tests.mapping import regions
from tests.parity import origin as reference_numbers

EQUAL_SHARE = 0.999
FILES = {
  "AERIAL_RGBI": inputs.SensorPaths("aerial.tif"),
  "SENTINEL2_TS": inputs.SensorPaths("s2.tif", "s2_dates.txt"),
}


@pytest.fixture(scope="module")
def numbers():
  if "shared" not in reference_numbers.ORIGINS:
    pytest.skip("needs ../shared (numbers of large networks)")
  return reference_numbers.ORIGINS["shared"]


def build_config(settings):
  config = base.get_config()
  options = settings["config"]
  encoder, decoder = options["monotemp_arch"].split("-")
  config.model.encoder, config.model.decoder = encoder, decoder
  config.data.modalities = tuple(
    name for name, is_used in options["modalities"]["inputs"].items() if is_used
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
  """Classes and probabilities of a map with the reference's settings."""
  settings = numbers.settings(f"e2e/{name}")
  config, options = build_config(settings), settings["config"]
  folder = numbers.folder / "zonaldata"
  sensors = inputs.open_inputs(
    config.schema,
    config.data.modalities,
    {
      sensor: inputs.SensorPaths(
        str(folder / FILES[sensor].raster),
        FILES[sensor].dates and str(folder / FILES[sensor].dates),
      )
      for sensor in config.data.modalities
    },
  )
  plan = layout.plan(
    sensors,
    window=options["img_pixels_detection"],
    margin=options["margin"],
    resolution=options["output_px_meters"],
    native_gsd=("SENTINEL2_TS",),
  )
  reader = examples.Reader(config, sensors, plan)
  model = build.build_segmenter(config, output_size=plan.logits)
  example = examples.stack([reader.empty_example()])
  variables = fixture_weights(numbers, model, example)
  program = network.WindowNetwork(
    model, variables, example, plan, batch_size=options["batch_size"]
  )
  selection = layers.Layers({regions.COSIA: tuple(range(19))})
  size = plan.grid.height, plan.grid.width
  classes = np.full(size, 255, np.uint8)
  probabilities = np.full((size[0], 19, size[1]), 255, np.uint8)

  def write(first, values):
    rows = values[f"{regions.COSIA}.classes"]
    classes[first : first + len(rows)] = rows[:, 0]
    rows = values[f"{regions.COSIA}.probabilities"]
    probabilities[first : first + len(rows)] = rows

  engine.run(program, reader, plan, selection, {regions.COSIA: 19}, write=write)
  inputs.close(sensors)
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
