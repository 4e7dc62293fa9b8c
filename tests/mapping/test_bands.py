"""Bands of a map: in one run, in jobs, and resumed, the bytes are the same."""

import jax.numpy as jnp
import numpy as np
import pytest

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import (
  bands,
  engine,
  examples,
  inputs,
  layout,
  network,
  store,
)
from flairhub_jax.mapping.layers import Layers
from tests import tiny
from tests.mapping import regions

TASK = regions.COSIA
LAYERS = Layers({TASK: (0, 2)}, ("confidence",))


class PlaceNetwork:
  """A network whose logits depend on the place of a window in its batch."""

  deterministic = False

  def apply(self, variables, batch, train):
    x = batch["inputs"]["AERIAL_RGBI"].astype(jnp.float32)[..., :3]
    place = jnp.arange(len(x), dtype=jnp.float32)[:, None, None, None]
    return {"logits": {TASK: x / 50 + place * jnp.arange(3.0)}}


class Region:
  """A map of 101 x 70 pixels with a hole, divided into bands of few windows."""

  def __init__(self, path, **options):
    config = tiny.get_config()
    config.data.modalities = ("AERIAL_RGBI",)
    paths = {"AERIAL_RGBI": inputs.SensorPaths(str(path))}
    self.sensors = inputs.open_inputs(
      config.schema, config.data.modalities, paths
    )
    self.layout = layout.plan(self.sensors, **options)
    self.reader = examples.Reader(config, self.sensors, self.layout)
    self.network = network.WindowNetwork(
      PlaceNetwork(),
      {},
      examples.stack([self.reader.empty_example()]),
      self.layout,
      batch_size=3,
    )
    self.division = bands.divide(self.layout, 3)

  def store(self, folder):
    folder.mkdir(exist_ok=True)
    sizes = LAYERS.pixel_bytes((TASK,))
    return store.Store(folder / "m.tif", "same", sizes, (101, 70))

  def compute(self, own_store, numbers, job=None):
    with own_store.open(job):
      engine.run(
        self.network,
        self.reader,
        self.layout,
        LAYERS,
        {TASK: 3},
        write=lambda n, rows: own_store.write(n, rows, (False, False)),
        finish=own_store.finish,
        division=self.division,
        numbers=numbers,
      )
    return self.files(own_store)

  def files(self, own_store):
    layers = LAYERS.pixel_bytes((TASK,))
    return [own_store.path(layer).read_bytes() for layer in layers]


WAYS = [
  {"window": 16, "overlap": 4},
  {"window": 16, "overlap": 12},
  {"window": 16, "margin": 3},
]


@pytest.fixture(scope="module", params=WAYS, ids=str)
def region(request, tmp_path_factory):
  values = regions.image(101, 70)
  values[20:60, 10:50] = 0
  folder = tmp_path_factory.mktemp("rasters")
  path = regions.write_raster(folder / "a.tif", values, nodata=0)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(bands, "_BATCHES", 3)
    yield (own := Region(path, **request.param))
  inputs.close(own.sensors)


def test_bands_divide_windows_and_rows(region):
  division = region.division
  assert len(division) > 3
  for each, number in (("windows", len(region.layout.rows)), ("rows", 101)):
    parts = [getattr(band, each) for band in division]
    assert [n for part in parts for n in part] == list(range(number))


def test_jobs_make_the_map_of_one_run(region, tmp_path):
  whole = region.store(tmp_path / "whole")
  expected = region.compute(whole, None)
  own = region.store(tmp_path / "jobs")
  for number in (2, 3, 1):  # in any order
    job = bands.Job(number, 3)
    mine = job.of(region.division)
    region.compute(own, range(mine[0].number, mine[-1].number + 1), job)
  assert region.files(own) == expected
  assert own.finished() == whole.finished()
  assert set(own.finished()) == {band.number for band in region.division}


def test_any_band_alone_is_that_of_one_run(region, tmp_path):
  expected = region.compute(region.store(tmp_path / "whole"), None)
  own = region.store(tmp_path / "each")
  for band in reversed(region.division):
    actual = region.compute(own, range(band.number, band.number + 1))
  assert actual == expected


def test_jobs_share_the_bands():
  division = [bands.Band(n, range(n, n + 1), range(n, n + 1)) for n in range(7)]
  for count in (1, 2, 3, 10):
    jobs = [bands.parse_job(f"{n + 1}/{count}") for n in range(count)]
    parts = [list(job.of(division)) for job in jobs]
    assert [band for part in parts for band in part] == division
    assert {len(part) for part in parts} <= {7 // count, 7 // count + 1}
    halves = [job.split(n, 2).of(division) for job in jobs for n in (0, 1)]
    assert [band for half in halves for band in half] == division
  assert bands.neighbours([4, 1, 2, 6]) == [
    range(1, 3),
    range(4, 5),
    range(6, 7),
  ]


@pytest.mark.parametrize("word", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_jobs_that_do_not_exist(word):
  with pytest.raises(InputError, match="--job: expected I/N"):
    bands.parse_job(word)


def test_one_process_at_a_time_for_the_same_rows(tmp_path):
  own = store.Store(tmp_path / "m.tif", "a", {"x": 1}, (2, 2))
  with own.open(bands.Job(1, 2)), own.open(bands.Job(2, 2)):
    for job in (None, bands.Job(1, 2)):
      with pytest.raises(InputError, match="no other mapping"), own.open(job):
        pass
  with own.open():
    own.write(0, {"x": np.ones((2, 1, 2), np.uint8)}, (False, False))
  other = store.Store(tmp_path / "m.tif", "b", {"x": 1}, (2, 2))
  with pytest.raises(InputError, match="another unfinished"), other.open():
    pass
