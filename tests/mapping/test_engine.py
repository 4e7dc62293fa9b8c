"""Seams and memory of maps, with a network of known logits."""

import jax.numpy as jnp
import numpy as np
import pytest
from rasterio import Affine

from flairhub_jax.mapping import (
  engine,
  examples,
  grid,
  inputs,
  layers,
  layout,
  network,
)
from tests import tiny
from tests.mapping import regions

TASK = regions.COSIA


class PixelNetwork:
  """A network whose logits depend on the pixel alone, or on nothing."""

  deterministic = False

  def __init__(self, is_constant):
    self.is_constant = is_constant

  def apply(self, variables, batch, train):
    x = batch["inputs"]["AERIAL_RGBI"].astype(jnp.float32)
    logits = jnp.linspace(-1, 1, 19) * jnp.ones((*x.shape[:3], 1))
    if not self.is_constant:
      logits = logits * (x[..., :1] / 50 - 2)
    return {"logits": {TASK: logits * variables["one"]}}


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
  values = regions.image(101, 87)
  values[40:70, 30:87] = 0
  folder = tmp_path_factory.mktemp("rasters")
  return regions.write_raster(folder / "a.tif", values, nodata=0), values


def compute(path, *, is_constant=False, batch_size=2, area=None, **options):
  """Layers of a whole map, and all windows in the order of computation."""
  config = tiny.get_config()
  config.data.modalities = ("AERIAL_RGBI",)
  paths = {"AERIAL_RGBI": inputs.SensorPaths(str(path))}
  sensors = inputs.open_inputs(config.schema, config.data.modalities, paths)
  plan = layout.plan(sensors, **options)
  reader = examples.Reader(config, sensors, plan)
  read, windows = reader.read, []

  def read_and_count(row, column):
    windows.append((row, column))
    return read(row, column)

  reader.read = read_and_count
  program = network.WindowNetwork(
    PixelNetwork(is_constant),
    {"one": jnp.ones(())},
    examples.stack([reader.empty_example()]),
    plan,
    batch_size=batch_size,
  )
  parts = {}
  engine.run(
    program,
    reader,
    plan,
    layers.Layers({TASK: (0, 18)}, ("confidence",)),
    {TASK: 19},
    write=lambda first, rows: parts.update({first: rows}),
    area=area,
  )
  inputs.close(sensors)
  firsts = sorted(parts)
  sizes = [len(parts[first][f"{TASK}.classes"]) for first in firsts]
  assert firsts == [0, *np.cumsum(sizes)[:-1]] and sum(sizes) == 101
  whole = {
    kind: np.concatenate([parts[first][f"{TASK}.{kind}"] for first in firsts])
    for kind in ("classes", "confidence", "probabilities")
  }
  return whole, windows


WAYS = [
  {"window": 32, "overlap": 8},
  {"window": 32, "overlap": 0},
  {"window": 32, "overlap": 27},
  {"window": 48, "overlap": 24},
  {"window": 200},
  {"window": 32, "margin": 5},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_there_are_no_seams(raster, way):
  path, values = raster
  has_data = (values != 0).any(-1)
  whole, _ = compute(path, is_constant=True, **way)
  shares = np.exp(np.linspace(-1, 1, 19))
  shares = np.rint(250 * shares / shares.sum())
  expected = {"classes": 18, "confidence": shares[-1]}
  for kind, value in expected.items():
    layer = whole[kind][:, 0]
    assert set(np.unique(layer[has_data])) == {value}
    assert (layer[~has_data] == 255).all()


@pytest.mark.parametrize("way", WAYS[1:], ids=str)
def test_maps_of_pixels_do_not_depend_on_the_windows(raster, way):
  path, values = raster
  first, _ = compute(path, **WAYS[0])
  other, _ = compute(path, batch_size=6, **way)
  has_data = (values != 0).any(-1)
  expected = np.where(values[..., 0] > 100, 18, 0)[has_data]
  decided = values[..., 0][has_data] != 100
  np.testing.assert_array_equal(
    other["classes"][:, 0][has_data][decided], expected[decided]
  )
  np.testing.assert_allclose(
    first["probabilities"].astype(int), other["probabilities"], atol=1
  )


def test_windows_outside_the_area_are_not_read(raster):
  path, _ = raster

  def area(row, col, height, width):
    rows, columns = np.ogrid[row : row + height, col : col + width]
    return (rows >= 80) & (columns < 20) & (rows < 101) & (columns >= 0)

  whole, windows = compute(path, area=area, window=32, overlap=8)
  is_mapped = whole["classes"][:, 0] != 255
  assert is_mapped.sum() == 21 * 20 and is_mapped[80:, :20].all()
  assert set(windows) == {(3, 0)}


def test_memory_does_not_grow_with_the_rows():
  plans = []
  for height in (100, 10_000):
    rows = layout.windows.blended(height, 64, 16)
    columns = layout.windows.blended(500, 64, 16)
    plans.append(
      layout.Layout(
        grid=grid.Grid(None, Affine.identity(), height, 500),
        is_flipped=(False, False),
        rows=rows,
        columns=columns,
        pixels={},
        logits=(64, 64),
        margin=None,
        notes=(),
      )
    )
  few, many = (engine.memory(plan, 19, 1000, 10**6) for plan in plans)
  assert few == many == 64 * 500 * (4 * 19 + 1) + 5000 + 10**6
