"""Networks, figures and reports of a data set with sensors of its own."""

import json

import jax
import numpy as np
import pytest

import flairhub_jax
from flairhub_jax import (
  __main__,
  checkpoint,
  configuration,
  figures,
  metrics,
  run_directory,
  schema_file,
)
from flairhub_jax.configs import base
from flairhub_jax.inference import coarser, report
from flairhub_jax.models import build, initialise
from flairhub_jax.studies import configurations, runs
from flairhub_jax.studies import report as study_report
from tests.studies import run_folders

SENSOR, SERIES, TASK = "MY_RGB", "MY_RADAR", "ROOFS"
SCHEMA = schema_file.parse(
  {
    "name": "roofs",
    "sensors": [
      {
        "id": SENSOR,
        "bands": ["red", "green", "blue"],
        "gsd": 0.5,
        "dtype": "uint16",
        "pixels": 64,
        "mean": [400, 500, 600],
        "std": [100, 100, 100],
      },
      {
        "id": SERIES,
        "kind": "series",
        "bands": ["VV"],
        "gsd": 4,
        "dtype": "float32",
        "pixels": 8,
        "dates": "dates.json",
        "num_dates": 3,
      },
    ],
    "tasks": [
      {
        "id": "COVER",
        "gsd": 1,
        "classes": [
          {"name": "house", "colour": "#ff0000"},
          {"name": "ground", "colour": "#00ff00"},
        ],
      },
      {
        "id": TASK,
        "title": "roofs",
        "gsd": 1,
        "parent": "COVER",
        "classes": [
          {"name": "tiles", "colour": "#ff0000", "parent": "house"},
          {"name": "slate", "colour": "#0000ff", "parent": "house"},
          {"name": "grass", "colour": "#00ff00", "parent": "ground"},
          {
            "name": "cloud",
            "colour": "#ffffff",
            "parent": "ground",
            "is_scored": False,
          },
        ],
      },
    ],
  },
  where="test",
)


def get_config():
  config = base.get_config(SCHEMA)
  config.data.modalities = (SENSOR, SERIES)
  config.data.tasks = (TASK,)
  config.model.encoder = "resnet18"
  config.model.decoder = "upernet_nano"
  utae = config.model.utae
  utae.encoder_widths = utae.decoder_widths = (16, 16)
  utae.head_widths = (16,)
  utae.num_heads, utae.attention_width = 4, 16
  return configuration.complete(config.to_dict())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run directory of a network that was drawn."""
  config = get_config()
  with config.unlocked():
    config.train.num_steps = 9
    config.train.best_metric = f"{TASK}/miou"
  model = build.build_segmenter(config)
  variables = initialise.init_variables(
    model, build.input_shapes(config), seed=0
  )
  folder = tmp_path_factory.mktemp("own") / "run"
  run = run_directory.start_or_continue(folder, config)
  checkpoints = checkpoint.Checkpoints(run.checkpoints)
  checkpoints.save(variables, 9, None)
  checkpoints.close()
  return run


def test_a_run_brings_its_sensors_and_classes(run):
  model = flairhub_jax.load_model(run.path)
  assert model.config.schema == SCHEMA
  rng = np.random.default_rng(0)
  batch = {
    "inputs": {
      SENSOR: rng.integers(0, 1000, (2, 64, 64, 3)).astype(np.uint16),
      SERIES: rng.normal(size=(2, 3, 8, 8, 1)).astype(np.float32),
    },
    "dates": {SERIES: np.tile(np.int32([0, 20, 40]), (2, 1))},
  }
  logits = jax.device_get(model.apply(batch)["logits"][TASK])
  # 32 m, at the GSD of the labels.
  assert logits.shape == (2, 32, 32, 4) and np.isfinite(logits).all()
  short = {
    **batch,
    "inputs": batch["inputs"] | {SENSOR: np.zeros((2, 64, 64, 4))},
  }
  with pytest.raises(flairhub_jax.errors.InputError, match="red, green, blue"):
    model.apply(short)


def test_describe_counts_a_network_of_another_schema(run, capsys):
  assert __main__.main(["describe", f"--config={run.config}"]) == 0
  rows = [line.split() for line in capsys.readouterr().out.splitlines()]
  parts = {(row[0], row[1]) for row in rows if len(row) > 3}
  assert {
    (SENSOR, "resnet18"),
    (SERIES, "utae"),
    (TASK, "upernet_nano"),
  } <= parts


@pytest.mark.parametrize(
  ("field", "known"), [("modalities", "MY_RGB"), ("tasks", "COVER")]
)
def test_ids_that_the_schema_lacks_get_one_line(run, capsys, field, known):
  argv = ["describe", f"--config={run.config}"]
  argv += [f"--config.data.{field}=('AERIAL_RGBI',)"]
  assert __main__.main(argv) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert f"config.data.{field}: expected any of {known}" in line
  assert line.endswith("found 'AERIAL_RGBI'")


def test_scores_and_figures_have_its_classes(tmp_path):
  tasks = configuration.label_tasks(get_config())
  matrix = np.diag([30, 20, 40, 5])
  matrix[0, 1] = 10
  origin = {"run": "x", "step": 1}
  scored = {TASK: tasks[TASK].scored}
  levels = coarser.above(SCHEMA, tasks)
  rows = coarser.score(levels, {TASK: matrix}, scored)
  scores = report.write_results(
    tmp_path, {TASK: matrix}, scored, tasks, origin, rows
  )
  assert list(scores[TASK]["classes"]) == ["tiles", "slate", "grass"]
  content = json.loads((tmp_path / "scores.json").read_text())
  (row,) = content["coarser"]
  assert row["title"] == "COVER (from roofs)" and row["miou"] == 100
  assert "roofs (ROOFS), test" in report.format_table(scores, tasks, "test")
  names = metrics.score_names(tasks[TASK], [2])
  assert names[-1] == "ROOFS/iou/grass"

  image = np.arange(64 * 3).reshape(8, 8, 3)
  picture = figures.composite(image, SCHEMA.sensors[SENSOR].bands)
  assert picture[0, 0].tolist() == [0, 0, 0]
  classes = np.array([[0, 1], [2, 255]], np.uint8)  # one pixel has no class
  patch = {"title": "a", "input": picture}
  patch |= {"truth": {TASK: classes}, "prediction": {TASK: classes}}
  figures.draw_patches(tmp_path / "maps.png", [patch], tasks)
  assert (tmp_path / "maps.png").stat().st_size > 1000


def resolved_config():
  """As `train` writes it."""
  config = get_config()
  with config.unlocked():
    config.data.fingerprint = run_folders.DATA
    config.train.num_steps = 9
    config.train.best_metric = f"{TASK}/miou"
  return config


def test_a_report_has_its_sensors_and_classes(tmp_path):
  config = resolved_config()
  for seed in (1, 2):
    config = configuration.complete(config.to_dict() | {"seed": seed})
    folder = tmp_path / "runs" / "a" / str(seed)
    run_folders.write_run(folder, config, 40.0 + seed)
    run_folders.write_subsets(folder, config, 40.0 + seed)
  found = runs.find_runs([str(tmp_path / "runs" / "*")], "test")
  rows = configurations.group(found)
  study_report.write(tmp_path / "report", found, rows, "test")
  text = (tmp_path / "report" / "report.md").read_text()
  assert "mIoU of roofs" in text and "| tiles" in text
  assert f"{SENSOR} + {SERIES}" in text and "3 dates of MY_RADAR" in text


def test_runs_on_other_classes_of_a_task_are_not_compared(tmp_path):
  config = resolved_config()
  merge = {"roof": ("tiles", "slate"), "rest": ("grass", "cloud")}
  given = config.to_dict()
  given["tasks"][TASK]["merge"] = merge
  merged = configuration.complete(given)
  run_folders.write_run(tmp_path / "a" / "1", config, 40.0)
  run_folders.write_run(tmp_path / "b" / "1", merged, 40.0)
  rows = configurations.group(runs.find_runs([str(tmp_path / "*")], "test"))
  with pytest.raises(flairhub_jax.errors.InputError) as error:
    configurations.tasks_of(rows)
  assert "task ROOFS: expected the classes of a, found other classes" in str(
    error.value
  )
