"""The recipes of CONTRIBUTING.md, followed to the letter in a copy."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

from tests.training import runs

ROOT = pathlib.Path(__file__).parents[1]
_BLOCK = r":\n\n((?:(?:    .*)?\n)+)"
NEW_FILE = re.compile(r"^New file `([^`]+)`" + _BLOCK, re.MULTILINE)
NEW_LINES = re.compile(r"^In `([^`]+)`, after `([^`]+)`" + _BLOCK, re.MULTILINE)
# Title -> number of places where lines are added.
RECIPES = {
  "A loss": 4,
  "An encoder": 2,
  "A fusion strategy": 4,
  "An augmentation": 4,
}

CONFIG = """
from tests import tiny

def get_config():
  config = tiny.get_config()
  config.data.modalities = ("AERIAL_RGBI",)
  config.data.tasks = ("AERIAL_LABEL-COSIA",)
  config.train.num_steps = 2
  config.train.validation_maps = 0
  config.model.encoder = "strided"
  config.loss.tversky.update(weight=0.5, alpha=0.75)
  config.fusion.kind = "mid_maximum"
  config.fusion.mid_maximum.temperature = 0.5
  config.data.augment = ("symmetry", "erase")
  config.data.augmentation.erase.fraction = 0.25
  return config
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
  """A copy of the package in which the recipes were followed."""
  folder = tmp_path_factory.mktemp("recipes")
  ignore = shutil.ignore_patterns("__pycache__", "configs")
  shutil.copytree(ROOT / "flairhub_jax", folder / "flairhub_jax", ignore=ignore)
  shutil.copytree(ROOT / "configs", folder / "flairhub_jax" / "configs")
  text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
  for title, places in RECIPES.items():
    recipe = text.split(f"\n### {title}\n")[1].split("\n### ")[0]
    follow(recipe, folder, places)
  return folder


def follow(recipe, folder, places):
  """Writes the new files of a recipe and inserts its lines."""

  def locate(name):
    parts = pathlib.PurePath(name).parts
    is_config = parts[0] == "configs"
    return folder.joinpath("flairhub_jax" if is_config else "", *parts)

  files, lines = NEW_FILE.findall(recipe), NEW_LINES.findall(recipe)
  assert len(files) == 1 and len(lines) == places
  for name, block in files:
    assert not (ROOT / name).exists()
    locate(name).write_text(unindented(block))
  for name, anchor, block in lines:
    text = locate(name).read_text()
    assert text.count(f"\n{anchor}\n") == 1, (name, anchor)
    text = text.replace(f"\n{anchor}\n", f"\n{anchor}\n{unindented(block)}")
    locate(name).write_text(text)


def unindented(block):
  """A block without the four columns that make it code."""
  lines = block.rstrip("\n").split("\n")
  return "\n".join(line[4:] for line in lines) + "\n"


def run(copy, *args):
  environment = runs.environment(1) | {
    "PYTHONPATH": os.pathsep.join([str(copy), str(ROOT)])
  }
  return subprocess.run(
    [sys.executable, *args],
    cwd=copy,
    env=environment,
    capture_output=True,
    text=True,
  )


def test_the_recipes_lead_to_a_run(copy, converted, tmp_path):
  config = tmp_path / "mine.py"
  config.write_text(CONFIG)
  done = run(
    copy,
    "-m",
    "flairhub_jax",
    "train",
    f"--config={config}",
    f"--workdir={tmp_path / 'run'}",
    f"--config.data.path={converted}",
  )
  assert done.returncode == 0, done.stderr
  assert len(runs.losses(tmp_path / "run")) == 2
  written = json.loads((tmp_path / "run" / "config.json").read_text())
  assert written["loss"]["tversky"] == {"alpha": 0.75, "weight": 0.5}


def test_the_added_parts_take_effect(copy):
  program = """
  import flairhub_jax, jax.numpy as jnp, numpy as np
  from flairhub_jax.configs import base
  from flairhub_jax.data import augmentation
  from flairhub_jax.models import build
  from flairhub_jax.models.mid_maximum import MidMaximum
  from flairhub_jax.training import losses

  assert flairhub_jax.__file__.startswith(str({folder!r}))
  settings = base.get_config().loss
  settings.cross_entropy.weight, settings.tversky.weight = 0.0, 1.0
  loss = losses.build_loss(settings)
  labels = jnp.array([[[0, 1, 255]]])
  sure = 50 * jnp.eye(3)[jnp.array([[[0, 1, 2]]])]
  assert loss(sure, labels, jnp.ones(3)) < 1e-6
  assert loss(-sure, labels, jnp.ones(3)) > 0.5

  erase, _ = augmentation.AUGMENTATIONS["erase"]
  image = np.ones((8, 8, 1))
  example = dict(inputs=dict(a=image), labels={{}})
  moved = erase(example, np.random.default_rng(0), dict(fraction=0.5))
  assert image.all() and (moved["inputs"]["a"] == 0).sum() == 16

  features = dict(a=[jnp.ones((1, 2, 2, 4))], b=[2 * jnp.ones((1, 2, 2, 4))])
  (fused,), _ = MidMaximum(temperature=0.1).init_with_output(
    __import__("jax").random.key(0), features, {{}}
  )
  assert fused.shape == (1, 2, 2, 4)

  config = base.get_config().model
  config.encoder = "strided"
  encoder = build.build_image_encoder(config)()
  image = jnp.ones((1, 64, 64, 3))
  key = __import__("jax").random.key(0)
  features, _ = encoder.init_with_output(key, image, False)
  assert [x.shape[1:] for x in features] == [
    (64 // 2**i, 64 // 2**i, 4 * 2**i) for i in (2, 3, 4, 5)
  ]
  """
  done = run(copy, "-c", textwrap.dedent(program).format(folder=str(copy)))
  assert done.returncode == 0, done.stderr
