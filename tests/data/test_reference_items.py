"""Compares our batches of three patches with the reference's items."""

import numpy as np
import pytest

from flairhub_jax.configs import base
from flairhub_jax.data import pipeline
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build, normalise

VARIANTS = (
  "default",
  "monthly",
  "semi",
  "spot_positional_defect",
  "nofilter_rawdem",
)


@pytest.fixture(scope="module")
def items(origin):
  """Settings and numbers of the reference's items."""
  settings = origin.settings("e2e/dataset_items")
  numbers = origin.arrays("e2e/dataset_items")
  assert set(settings["variants"]) == set(VARIANTS)
  return settings, numbers


def elevation_bands(steps):
  """The bands that the reference's switches stand for."""
  if not steps["calc_elevation"]:
    return ("DSM", "DTM")
  return ("DSM", "NDSM") if steps["calc_elevation_stack_dsm"] else ("NDSM",)


def build_config(settings, variant, lengths):
  """Our configuration for the settings of the reference."""
  config = base.get_config()
  steps = settings["variants"][variant]["pre_processings"]
  statistics = settings["variants"][variant]["normalization"]
  config.data.modalities = tuple(FLAIR_HUB.sensors)
  config.data.tasks = ("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS")
  config.data.date_buckets = lengths
  config.data.normalisation = statistics["norm_type"]
  config.data.averaging = "reference"
  cloud_filter = config.data.cloud_filter
  cloud_filter.fallback = "snow_free"
  cloud_filter.enabled = steps["filter_sentinel2"]
  cloud_filter.max_cloud = float(steps["filter_sentinel2_max_cloud"])
  cloud_filter.max_snow = float(steps["filter_sentinel2_max_snow"])
  cloud_filter.max_cover = steps["filter_sentinel2_max_frac_cover"]
  for row in FLAIR_HUB.sensors.values():
    given = config.inputs[row.id]
    if row.is_series:
      sensor = row.id.split("-")[0].removesuffix("_TS").lower()
      period = steps[f"temporal_average_{sensor}"]
      given.temporal_average = period or "none"
      continue
    channels = settings["config_used"]["inputs_channels"].get(row.id)
    if row.id == "DEM_ELEV":
      given.bands = elevation_bands(steps)
    elif channels:
      given.bands = tuple(row.bands[channel - 1] for channel in channels)
    # By position, whatever band it is: the reference's way.
    for name in ("mean", "std"):
      numbers = statistics[f"{row.id}_{name}s"]
      given[name] = dict(zip(given.bands, numbers, strict=False))
  return config


@pytest.fixture(scope="module", params=VARIANTS)
def read(request, items, minidata):
  """(our example of a patch's number, our batch, sources, expected)."""
  settings, numbers = items
  # Every length that a variant pads to: ours then pad to no more.
  batches = [k for k in numbers if "/batch/" in k and "DATES" in k]
  lengths = sorted({numbers[key].shape[1] for key in batches})
  config = build_config(settings, request.param, tuple(lengths))
  options = pipeline.build_read_options(config)
  reader = pipeline.PatchReader(minidata, "test", options)
  (batch,) = pipeline.evaluation_batches(reader, batch_size=3)
  sources = build.build_segmenter(
    config, output_size=minidata.output_size
  ).inputs
  expected = {
    key.removeprefix(f"{request.param}/"): numbers[key]
    for key in numbers
    if key.startswith(f"{request.param}/")
  }
  return reader, batch, sources, expected


def test_images_and_series_equal_the_references(read, origin):
  reader, _, sources, expected = read
  assert len(sources) == len(FLAIR_HUB.sensors)
  for row in range(3):
    example = reader[row]
    for source in sources:
      x = normalise.normalise(example["inputs"][source.modality], source)
      x = np.moveaxis(np.asarray(x), -1, -3)
      place = f"{row}/{source.modality}"
      actual = origin.rule.sample(x, expected[f"{place}/sample"].size)
      if source.is_series:  # not even rounded otherwise
        np.testing.assert_array_equal(
          actual, expected[f"{place}/sample"], place
        )
      np.testing.assert_allclose(
        actual, expected[f"{place}/sample"], rtol=3e-7, atol=3e-7, err_msg=place
      )
      np.testing.assert_allclose(
        origin.rule.stats(x),
        expected[f"{place}/stats"],
        rtol=3e-7,
        atol=1e-7,
        err_msg=place,
      )


def test_dates_equal_the_references(read):
  reader, batch, sources, expected = read
  for source in sources:
    if not source.is_series:
      continue
    name = source.modality
    key = name.replace("_TS", "_DATES")
    for row in range(3):
      example = reader[row]
      days = example["dates"][name]
      np.testing.assert_array_equal(days, expected[f"{row}/{key}"])
      # The reference knows padding by its zeros.
      shown = example["inputs"][name].any((1, 2, 3))
      np.testing.assert_array_equal(example["valid"][name], shown)
    np.testing.assert_array_equal(
      batch["dates"][name], expected[f"batch/{key}"]
    )


def test_labels_equal_the_references(read):
  _, batch, _, expected = read
  for task in ("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"):
    for row in range(3):
      np.testing.assert_array_equal(
        batch["labels"][task][row], expected[f"{row}/{task}/argmax"]
      )
