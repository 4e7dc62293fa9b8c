"""Writes run directories like those of training and evaluation."""

import itertools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flairhub_jax import configuration, metrics
from tests import tiny

DATA = "76c6c6a8" * 8
LAND_COVER, CROPS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"


def config(seed: int = 1, **fields: Any) -> Any:
  """A resolved configuration; `fusion__kind="…"` sets a field."""
  result = tiny.get_config()
  result.seed = seed
  result.data.fingerprint = DATA
  result.data.tasks = (LAND_COVER,)
  result.train.best_metric = f"{LAND_COVER}/miou"
  for name, value in fields.items():
    *sections, last = name.split("__")
    node = result
    for section in sections:
      node = node[section]
    node[last] = value
  return result


def task_scores(
  config: Any, task: str, miou: float, overall_accuracy: float
) -> dict:
  """Scores of a task; the first scored class takes up what mIoU says."""
  table = configuration.label_tasks(config)[task]
  names = [c.name for c in table.classes if c.is_scored]
  classes = {
    name: {"iou": min(100.0, miou * (1 + i % 3) / 2), "pixels": 100 + i}
    for i, name in enumerate(names)
  }
  classes[names[-1]] = {"iou": 0.0, "pixels": 0}
  averages = dict.fromkeys(metrics.AVERAGES, 50.0)
  averages |= {"miou": miou, "miou_present": miou + 2}
  averages["overall_accuracy"] = overall_accuracy
  return {**averages, "majority": averages, "classes": classes}


def write_run(
  folder: pathlib.Path,
  config: Any,
  miou: Mapping[str, float] | float | None,
  *,
  overall_accuracy: float = 70.0,
  last_step: int | None = None,
  data: str = DATA,
) -> pathlib.Path:
  """Writes a run directory; without `miou` it was not evaluated."""
  folder.mkdir(parents=True)
  (folder / "config.json").write_text(configuration.to_json(config))
  tasks = config.data.tasks
  if not isinstance(miou, Mapping):
    miou = dict.fromkeys(tasks, miou)
  num_steps = config.train.num_steps
  if last_step is None:
    last_step = num_steps
  records = []
  for step in range(1, last_step + 1):
    record = {"kind": "train", "step": step, "loss": 3 / step}
    records.append(record | {"patches_per_second": 2.0})
    if step % 3 == 0:
      values = {f"{t}/miou": (miou[t] or 0) * step / num_steps for t in tasks}
      records.append({"kind": "valid", "step": step, **values})
  lines = "".join(json.dumps(record) + "\n" for record in records)
  (folder / "metrics.jsonl").write_text(lines)
  if all(value is not None for value in miou.values()):
    scores = {
      t: task_scores(config, t, miou[t], overall_accuracy) for t in tasks
    }
    write_results(folder, "scores.json", last_step, data, tasks=scores)
  return folder


def write_results(folder, name, step, data=DATA, **content):
  path = folder / "results" / "own" / "test" / name
  path.parent.mkdir(parents=True, exist_ok=True)
  origin = {"run": folder.name, "step": step, "data": data, "split": "test"}
  path.write_text(json.dumps(origin | content))


def write_subsets(folder: pathlib.Path, config: Any, full: float) -> None:
  """Scores of every subset: `full` falls by 10 for each missing modality."""
  modalities: Sequence[str] = config.data.modalities
  rows = []
  for size in range(len(modalities), 0, -1):
    for subset in itertools.combinations(modalities, size):
      miou = full - 10 * (len(modalities) - size)
      tasks = {t: task_scores(config, t, miou, 70.0) for t in config.data.tasks}
      rows.append({"modalities": list(subset), "tasks": tasks})
  write_results(folder, "subsets.json", config.train.num_steps, subsets=rows)


def write_study(folder: pathlib.Path, seeds: int = 3) -> pathlib.Path:
  """A study with every kind of table: runs of strategies, tasks, subsets."""
  rng = np.random.default_rng(0)
  for number, kind in enumerate(("mid_concat", "mid_gated", "late_mean")):
    for seed in range(1, seeds + 1):
      row = config(seed, fusion__kind=kind)
      miou = 40 + 4 * number + float(rng.normal())
      run = write_run(folder / kind / f"seed-{seed}", row, miou)
      write_subsets(run, row, miou)
  for seed in range(1, seeds + 1):
    row = config(seed, data__tasks=(LAND_COVER, CROPS))
    both = {LAND_COVER: 38 + float(rng.normal()), CROPS: 20.0 + seed}
    write_run(folder / "both-tasks" / f"seed-{seed}", row, both)
  write_run(
    folder / "mid_gated" / "seed-9",
    config(9, fusion__kind="mid_gated"),
    1.0,
    last_step=4,
  )
  return folder
