"""`evaluate` and `predict` as a user calls them, in one process and in two."""

import json
import shutil

import jax
import numpy as np
import pytest
import rasterio

import flairhub_jax
from flairhub_jax import __main__, checkpoint, configuration, run_directory
from flairhub_jax.data import convert, pipeline, records, simulate
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build, initialise
from flairhub_jax.training.resolve import resolve
from tests import tiny
from tests.two_processes import in_two_processes

COSIA = "AERIAL_LABEL-COSIA"


def write_run(folder, data, modalities, *, seed=0, step=3):
  """The run directory of a network that was drawn, not trained."""
  config = tiny.get_config()
  config.data.path, config.data.modalities = str(data), modalities
  config.fusion.kind = "late_gated"
  dataset = records.load_dataset(data)
  config = resolve(config, dataset)
  model = build.build_segmenter(config, output_size=dataset.output_size)
  options = pipeline.build_read_options(config)
  reader = pipeline.PatchReader(dataset, "train", options)
  variables = initialise.init_variables(
    model, pipeline.example_batch(reader), seed=seed
  )
  # Drawn networks see one class only.
  rng = np.random.default_rng(seed)
  variables["params"] = jax.tree.map(
    lambda x: x + 0.2 * rng.standard_normal(x.shape).astype(np.float32),
    variables["params"],
  )
  run = run_directory.start_or_continue(folder, config)
  checkpoints = checkpoint.Checkpoints(run.checkpoints)
  checkpoints.save(variables, step, None)
  checkpoints.close()
  return run


@pytest.fixture(scope="module")
def run(converted, tmp_path_factory):
  """A run of two time series: fast to compile, with modality weights."""
  folder = tmp_path_factory.mktemp("runs") / "seed-0"
  return write_run(folder, converted, ("SENTINEL2_TS", "SENTINEL1-ASC_TS"))


def call(*argv, code=0):
  assert __main__.main([str(word) for word in argv]) == code


def contents(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def test_two_processes_score_what_one_scores(run, tmp_path, capsys):
  arguments = ("evaluate", "--run", run.path, "--subsets=all")
  call(*arguments)
  message = capsys.readouterr().out
  alone = contents(run.results("test"))
  assert set(alone) == {
    "scores.json",
    "subsets.json",
    "usage.json",
    "usage.png",
    "usage_maps.png",
    "maps.png",
    f"confusion_{COSIA}.png",
    "confusion_ALL_LABEL-LPIS.png",
  }
  assert all(f"{run.results('test') / name}\n" in message for name in alone)
  confusion = json.loads(alone["scores.json"])["tasks"][COSIA]["confusion"]
  assert (np.sum(confusion, 0) > 0).sum() > 3

  first, second = in_two_processes(*arguments, "--out", tmp_path / "two")
  assert "mIoU" in first and second == ""
  together = contents(tmp_path / "two")
  assert json.loads(together.pop("origin.json"))["step"] == 3
  assert together == alone


def test_two_processes_write_the_maps_of_one(run, tmp_path):
  out = tmp_path / "maps"
  call("predict", "--run", run.path, "--out", out)
  alone = contents(out)
  maps = sorted((out / COSIA).iterdir())
  assert len(alone) == 2 * len(maps) + 2

  # One process was killed in the midst of it; two go on.
  (out / "maps.png").unlink()
  for path in maps[5:]:
    path.unlink()
  kept = maps[0].stat().st_mtime_ns
  first, second = in_two_processes("predict", "--run", run.path, "--out", out)
  assert f"{len(maps)} maps" in first and second == ""
  assert contents(out) == alone and maps[0].stat().st_mtime_ns == kept


def test_maps_of_another_network_are_refused(run, converted, tmp_path, capsys):
  """The other network has the same run name and step."""
  other = write_run(
    tmp_path / run.path.name,
    converted,
    ("SENTINEL2_TS", "SENTINEL1-ASC_TS"),
    seed=1,
  )
  call("predict", "--run", run.path, "--out", tmp_path / "maps")
  before = contents(tmp_path / "maps")
  capsys.readouterr()
  call("predict", "--run", other.path, "--out", tmp_path / "maps", code=2)
  (line,) = [x for x in capsys.readouterr().err.splitlines() if "flairhub" in x]
  assert "expected maps of weights" in line and "found maps of weights" in line
  assert contents(tmp_path / "maps") == before


def test_other_data_do_not_replace_results(run, converted, tmp_path, capsys):
  other = tmp_path / "other fields"
  other.mkdir()
  for path in converted.iterdir():
    (other / path.name).symlink_to(path)
  (other / "dataset.json").unlink()
  text = (converted / "dataset.json").read_text()
  (other / "dataset.json").write_text(text + "\n")
  call("evaluate", "--run", run.path)
  own = contents(run.results("test"))
  call("evaluate", "--run", run.path, "--data", other)
  assert contents(run.results("test")) == own
  (name,) = run.other_results("test")
  assert name.startswith("other_fields-")
  config = configuration.load_json(run.config)
  assert run.find_results("test", config) == run.results("test")

  # A run that cannot be written is reported before any work.
  (run.path / "results" / "own" / "valid").write_text("")
  capsys.readouterr()
  call("evaluate", "--run", run.path, "--split=valid", code=2)
  message = capsys.readouterr()
  assert "another one with --out" in message.err and "batch" not in message.err
  call(
    "evaluate", "--run", run.path, "--split=valid", "--out", tmp_path / "valid"
  )
  assert (tmp_path / "valid" / "scores.json").is_file()


def test_patches_of_another_size(converted, tmp_path, capfd):
  """Windows of Swin shrink with them; the tables are resized."""
  raw = tmp_path / "raw"
  simulate.simulate(
    raw,
    num_patches=10,
    pixels=128,
    modalities=("AERIAL_RGBI",),
    seed=1,
    num_workers=0,
    progress=False,
  )
  convert.convert(
    {"train": raw / "csv" / "FLAIR-HUB_SIMULATED_TRAIN.csv"},
    tmp_path / "records",
    metadata=None,
    num_workers=0,
    progress=False,
  )
  run = write_run(tmp_path / "run", tmp_path / "records", ("AERIAL_RGBI",))
  out = tmp_path / "maps"
  call("predict", "--run", run.path, "--data", converted, "--out", out)
  assert "Traceback" not in capfd.readouterr().err
  image = np.zeros((1, 64, 64, 4), np.uint8)
  outputs = flairhub_jax.load_model(run.path).apply(
    {"inputs": {"AERIAL_RGBI": image}}
  )
  assert outputs["logits"][COSIA].shape == (1, 64, 64, 19)
  for path in (out / COSIA).iterdir():
    with rasterio.open(path) as raster:
      assert raster.shape == (64, 64)


def test_a_bias_makes_another_map_and_other_scores(run, tmp_path, capsys):
  """A class with a large bias is everywhere."""
  bias = f"--bias={COSIA}:snow=1000"
  call("evaluate", "--run", run.path, bias)
  (folder,) = (run.path / "results" / "own").glob("test-bias-*")
  assert folder != run.results("test")
  content = json.loads((folder / "scores.json").read_text())
  assert content["bias"] == {COSIA: {"snow": 1000.0}}
  confusion = np.array(content["tasks"][COSIA]["confusion"])
  assert confusion[:, 7].sum() == confusion.sum() > 0

  out = tmp_path / "maps"
  call("predict", "--run", run.path, "--out", out, bias)
  for path in (out / COSIA).iterdir():
    with rasterio.open(path) as raster:
      assert (raster.read(1) == 7).all()
      text = str(raster.tags())
      assert "; bias of snow +1000" in text
  capsys.readouterr()
  call("predict", "--run", run.path, "--out", out, code=2)
  (line,) = [x for x in capsys.readouterr().err.splitlines() if "flairhub" in x]
  assert 'found maps of bias {"AERIAL_LABEL-COSIA": {"snow": 1000.0}}' in line
  call("predict", "--run", run.path, "--out", out, "--bias=x", code=2)


def test_scores_on_a_merge_stand_beside_the_others(run, tmp_path, capsys):
  names = FLAIR_HUB.tasks[COSIA].class_names
  path = tmp_path / "built.json"
  path.write_text(json.dumps({"built": names[:3], "other": names[3:]}))
  out = tmp_path / "results"
  arguments = ("evaluate", "--run", run.path, "--out", out)
  call(*arguments, f"--merge={COSIA}={path}")
  assert "built (from land cover)" in capsys.readouterr().out
  content = json.loads((out / "scores.json").read_text())
  (row,) = content["coarser"]
  fine = np.array(content["tasks"][COSIA]["confusion"])
  assert row["confusion"] == [
    [int(fine[a, b].sum()) for b in (slice(3), slice(3, None))]
    for a in (slice(3), slice(3, None))
  ]
  call(*arguments, f"--merge={COSIA}={tmp_path / 'none.json'}", code=2)


def with_schema(run, folder, change):
  """A copy of a run whose schema is another one."""
  shutil.copytree(run.path, folder, ignore=lambda *_: ["results"])
  content = json.loads((folder / "config.json").read_text())
  rows = {
    row["id"]: row
    for kind in ("sensors", "tasks")
    for row in content["schema"][kind]
  }
  change(rows)
  (folder / "config.json").write_text(json.dumps(content))
  return folder


def test_data_of_another_schema_are_refused(run, tmp_path, capsys):
  def change(rows):
    rows["SENTINEL1-ASC_TS"]["bands"].reverse()
    classes = rows[COSIA]["classes"]
    classes[0], classes[1] = classes[1], classes[0]

  other = with_schema(run, tmp_path / "other", change)
  call("evaluate", "--run", other, code=2)
  lines = [x for x in capsys.readouterr().err.splitlines() if "SENTINEL1" in x]
  assert "bands: expected VH, VV, as the run has, found VV, VH" in lines[0]
  assert not (other / "results").exists()
  # Prediction reads no labels.
  call("predict", "--run", other, "--out", tmp_path / "maps", code=2)
  message = capsys.readouterr().err
  assert "VH, VV" in message and COSIA not in message

  other = with_schema(
    run, tmp_path / "classes", lambda rows: rows[COSIA]["classes"].reverse()
  )
  call("evaluate", "--run", other, code=2)
  (line,) = [x for x in capsys.readouterr().err.splitlines() if "flairhub" in x]
  assert f"task {COSIA}, classes: expected undefined, mixed, " in line
