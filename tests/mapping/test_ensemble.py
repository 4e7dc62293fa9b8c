"""Ensembles, merged classes and class biases of `flairhub zonal`."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rasterio

from flairhub_jax import configuration
from flairhub_jax.inference import trained
from flairhub_jax.mapping import (
  engine,
  ensemble,
  examples,
  inputs,
  layout,
  network,
)
from flairhub_jax.mapping.layers import Layers
from flairhub_jax.models import build
from tests import tiny
from tests.mapping import regions
from tests.mapping.regions import refused, zonal

SIDE, TASK = regions.SIDE, regions.COSIA


@pytest.fixture(scope="module")
def second(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "second"
  return regions.write_run(folder, pixels=SIDE, seed=1)


@pytest.fixture(scope="module")
def values():
  return regions.image(SIDE, SIDE)


@pytest.fixture(scope="module")
def raster(values, tmp_path_factory):
  folder = tmp_path_factory.mktemp("rasters")
  return regions.write_raster(folder / "aerial.tif", values)


@pytest.fixture(scope="module")
def logits(run, second, values):
  """Logits [h w k] of each run, without any of the mapping code."""
  batch = {"inputs": {"AERIAL_RGBI": values[None]}}
  model = build.build_segmenter(configuration.load_json(run.config))
  apply = jax.jit(lambda v, b: model.apply(v, b)["logits"][TASK])
  shape = build.variables_shape(model, batch)
  return [
    np.asarray(apply(trained.restore(each.path, shape)[0], batch))[0]
    for each in (run, second)
  ]


def test_probabilities_of_runs_are_averaged(
  run, second, raster, logits, tmp_path, monkeypatch
):
  programs, compile_one = set(), network._compile

  def compile_and_count(lowered, known):
    program = compile_one(lowered, known)
    programs.add(id(program))
    return program

  monkeypatch.setattr(network, "_compile", compile_and_count)
  classes = zonal(
    run, tmp_path / "m.tif", "--run", second.path, "--input", raster,
    "--probabilities", "all",
  )  # fmt: skip
  expected = np.mean([jax.nn.softmax(each, -1) for each in logits], 0)
  assert (classes == expected.argmax(-1)).mean() >= 0.999
  assert (expected.argmax(-1) != logits[0].argmax(-1)).any()
  shares, _ = regions.read(tmp_path / "m_probabilities.tif")
  np.testing.assert_allclose(shares / 250, expected, atol=0.0025)
  with rasterio.open(tmp_path / "m.tif") as written:
    origin = json.loads(written.tags()["FLAIRHUB_ORIGIN"])
  names = [each["run"] for each in origin["ensemble"]]
  assert names == [run.path.name, second.path.name]
  assert len({each["weights"] for each in origin["ensemble"]}) == 2
  # The networks differ in weights only: one program is compiled.
  assert len(programs) == 1


def test_symmetries_of_a_window_are_averaged(run, raster, values, tmp_path):
  out = tmp_path / "m.tif"
  classes = zonal(
    run, out, "--input", raster, "--tta", "--probabilities", "all"
  )
  forms = [
    (np.rot90(v, k), k, v is not values)
    for v in (values, values[::-1])
    for k in range(4)
  ]
  batch = {"inputs": {"AERIAL_RGBI": np.stack([form for form, *_ in forms])}}
  model = build.build_segmenter(configuration.load_json(run.config))
  variables, _ = trained.restore(run.path, build.variables_shape(model, batch))
  apply = jax.jit(lambda v, b: model.apply(v, b)["logits"][TASK])
  shares = np.asarray(jax.nn.softmax(apply(variables, batch), -1))
  back = [
    np.rot90(own, -k)[:: -1 if is_flipped else 1]
    for own, (_, k, is_flipped) in zip(shares, forms, strict=True)
  ]
  expected = np.mean(back, 0)
  assert (classes == expected.argmax(-1)).mean() >= 0.999
  actual, _ = regions.read(tmp_path / "m_probabilities.tif")
  np.testing.assert_allclose(actual / 250, expected, atol=0.0025)
  with rasterio.open(out) as written:
    assert json.loads(written.tags()["FLAIRHUB_ORIGIN"])["tta"] is True


def test_runs_must_agree(run, raster, tmp_path, capsys):
  out, words = tmp_path / "m.tif", ("--input", raster)
  line = refused(capsys, run, out, "--run", run.path, *words)
  assert "every run once" in line
  other = regions.write_run(
    tmp_path / "two", pixels=SIDE, **{"data.tasks": ("ALL_LABEL-LPIS",)}
  )
  line = refused(capsys, run, out, "--run", other.path, *words)
  assert "expected the classes of" in line and "ALL_LABEL-LPIS" in line
  spot = regions.write_run(
    tmp_path / "spot", modalities=("SPOT_RGBI",), pixels=SIDE * 8
  )
  line = refused(
    capsys, run, out, "--run", spot.path, "--input", f"AERIAL_RGBI={raster}"
  )
  assert "expected rasters of any of SPOT_RGBI, found none" in line


def test_biases_count_before_classes_are_merged(
  run, raster, logits, tmp_path, capsys
):
  names = list(
    configuration.load_json(run.config).schema.tasks[TASK].class_names
  )
  order = np.argsort(np.bincount(logits[0].argmax(-1).ravel(), minlength=19))
  members = order[[0, -1]]
  groups = {
    "rest": [name for i, name in enumerate(names) if i not in members],
    "chosen": [names[i] for i in members],
  }
  (tmp_path / "merge.json").write_text(json.dumps(groups))
  merge = ("--merge", f"{TASK}={tmp_path / 'merge.json'}")
  words = ("--input", raster, *merge)
  classes = zonal(
    run, tmp_path / "m.tif", *words, "--bias", f"{TASK}:{names[order[0]]}=0.5",
    "--probabilities", "chosen",
  )  # fmt: skip
  biased = logits[0] + 0.5 * (np.arange(19) == order[0])
  expected = np.asarray(jax.nn.softmax(biased, -1))[..., members].sum(-1)
  shares, _ = regions.read(tmp_path / "m_probabilities.tif")
  np.testing.assert_allclose(shares[..., 0] / 250, expected, atol=0.0025)
  assert (classes == (expected > 0.5)).mean() >= 0.999
  assert set(np.unique(classes)) == {0, 1}
  with rasterio.open(tmp_path / "m.tif") as written:
    origin = json.loads(written.tags()["FLAIRHUB_ORIGIN"])
  assert origin["bias"] == {TASK: {names[order[0]]: 0.5}}
  new, (chosen, own) = origin["merge"][TASK]
  assert new == ["rest", groups["rest"]]
  assert chosen == "chosen" and set(own) == set(groups["chosen"])
  aside = (tmp_path / "m.tif.aux.xml").read_text()
  assert "<Category>rest</Category><Category>chosen</Category>" in "".join(
    line.strip() for line in aside.splitlines()
  )
  zonal(run, tmp_path / "m.tif", *words, code=2)
  assert "another map" in capsys.readouterr().err
  line = refused(capsys, run, tmp_path / "n.tif", *words, *merge)
  assert f"--merge: expected {TASK} once, found it twice" in line


class ConstantNetwork:
  """A network whose probabilities of two classes are 3/4 and 1/4."""

  deterministic = False

  def __init__(self, sensor, order):
    self.sensor, self.order = sensor, order

  def apply(self, variables, batch, train):
    number = len(batch["inputs"][self.sensor])
    pair = jnp.log(jnp.array([0.75, 0.25]))[jnp.array(self.order)]
    return {"logits": {TASK: jnp.broadcast_to(pair, (number, 32, 32, 2))}}


def test_networks_without_data_in_a_window_do_not_count(tmp_path):
  """SPOT covers the left half: there both networks count."""
  config = tiny.get_config()
  config.data.modalities = ("AERIAL_RGBI", "SPOT_RGBI")
  aerial = regions.write_raster(tmp_path / "a.tif", regions.image(32, 64))
  spot = regions.image(4, 4, 4, dtype=np.uint16)
  spot = regions.write_raster(tmp_path / "s.tif", spot, pixel=1.6)
  paths = {"AERIAL_RGBI": aerial, "SPOT_RGBI": spot}
  sensors = inputs.open_inputs(
    config.schema,
    config.data.modalities,
    {name: inputs.SensorPaths(str(path)) for name, path in paths.items()},
  )
  plan = layout.plan(sensors, window=32, overlap=0)
  readers, networks = [], []
  for name, order in (("AERIAL_RGBI", [0, 1]), ("SPOT_RGBI", [1, 0])):
    config.data.modalities = (name,)
    reader = examples.Reader(config, {name: sensors[name]}, plan)
    readers.append(reader)
    networks.append(
      network.WindowNetwork(
        ConstantNetwork(name, order),
        {},
        examples.stack([reader.empty_example()]),
        plan,
        batch_size=2,
      )
    )
  rows = {}
  progress = engine.run(
    ensemble.EnsembleNetwork(networks),
    ensemble.EnsembleReader(readers),
    plan,
    Layers({TASK: (0,)}),
    {TASK: 2},
    write=lambda first, layers: rows.update({first: layers}),
  )
  inputs.close(sensors)
  shares = rows[0][f"{TASK}.probabilities"]
  assert (shares[..., :32] == 125).all()
  assert (shares[..., 32:] == 188).all()  # round(250 * 0.75), to even
  assert progress.num_absent == {"SPOT_RGBI": 1}
