"""Files, tables and figures of an evaluation."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flairhub_jax import atomic, figures, metrics, text_table
from flairhub_jax.data import records
from flairhub_jax.schema import LabelTask, Sensor


def scores_as_json(
  confusion: Mapping[str, np.ndarray],
  scored: Mapping[str, np.ndarray],
  tasks: Mapping[str, LabelTask],
) -> dict[str, Any]:
  """Returns all scores by task, in percent, with the majority baseline.

  Args:
    confusion: int64 [k k] by task, rows true.
    scored: bool [k] by task.
    tasks: label tasks by id.
  """
  result = {}
  for task, matrix in confusion.items():
    scores = metrics.score(matrix, scored[task])
    baseline = metrics.score(
      metrics.majority_confusion(matrix, scored[task]), scored[task]
    )
    result[task] = {
      **scores.summary(),
      "majority": baseline.summary(),
      "classes": {
        tasks[task].classes[value].name: {
          "iou": float(scores.iou[row]),
          "f_score": float(scores.f_score[row]),
          "precision": float(scores.precision[row]),
          "recall": float(scores.recall[row]),
          "pixels": int(scores.support[row]),
          "majority_iou": float(baseline.iou[row]),
        }
        for row, value in enumerate(scores.classes)
      },
      "confusion": matrix.tolist(),
    }
  return result


def format_table(
  scores: Mapping[str, Any], tasks: Mapping[str, LabelTask], heading: str
) -> str:
  """Renders `scores_as_json` as text; the IoU of absent classes is a dash."""
  blocks = []
  for task, values in scores.items():
    title = f"{tasks[task].short_name} ({task}), {heading}"
    majority = values["majority"]
    total = max(1, sum(c["pixels"] for c in values["classes"].values()))
    rows = [
      (
        name,
        f"{100 * row['pixels'] / total:.2f}",
        f"{row['iou']:.2f}" if row["pixels"] else "-",
        f"{row['majority_iou']:.2f}",
      )
      for name, row in values["classes"].items()
    ]
    rows.append(text_table.RULE)
    rows += [
      (name, "", f"{values[key]:.2f}", f"{majority[key]:.2f}")
      for name, key in (
        ("mIoU", "miou"),
        ("mIoU of the classes that occur", "miou_present"),
        ("OA", "overall_accuracy"),
      )
    ]
    headers = ["class", "pixels %", "IoU %", "majority %"]
    blocks.append(f"\n{title}\n{text_table.format_table(headers, rows)}")
  return "\n".join(blocks)


def sample_patches(num_patches: int, count: int = 5) -> list[int]:
  """Returns the indices of `count` patches, evenly spaced over a split."""
  return np.unique(np.linspace(0, num_patches - 1, count).astype(int)).tolist()


def write_results(
  folder: pathlib.Path,
  confusion: Mapping[str, np.ndarray],
  scored: Mapping[str, np.ndarray],
  tasks: Mapping[str, LabelTask],
  origin: Mapping[str, Any],
  coarser: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
  """Writes a confusion figure per task and scores.json; returns the scores.

  scores.json is written last: its presence marks a complete evaluation.

  Args:
    folder: of the results.
    confusion: int64 [k k] by task, rows true.
    scored: bool [k] by task.
    tasks: label tasks by id.
    origin: from `origin.describe`.
    coarser: from `coarser.score`.
  """
  folder.mkdir(parents=True, exist_ok=True)
  scores = scores_as_json(confusion, scored, tasks)
  for task, matrix in confusion.items():
    figures.draw_confusion(
      folder / f"confusion_{task}.png", matrix, tasks[task], scored[task]
    )
  content = {**origin, "tasks": scores}
  if coarser:
    content["coarser"] = list(coarser)
  text = json.dumps(content, indent=2) + "\n"
  atomic.write_text(folder / "scores.json", text)
  return scores


def write_subsets(
  folder: pathlib.Path,
  confusion: Mapping[tuple[str, ...], Mapping[str, np.ndarray]],
  scored: Mapping[str, np.ndarray],
  tasks: Mapping[str, LabelTask],
  origin: Mapping[str, Any],
) -> list[dict[str, Any]]:
  """Writes subsets.json: scores by subset of modalities; returns its rows."""
  rows = []
  for subset, matrices in confusion.items():
    scores = scores_as_json(matrices, scored, tasks)
    for values in scores.values():
      # scores.json has those of the full set.
      del values["confusion"], values["majority"]
    rows.append({"modalities": list(subset), "tasks": scores})
  text = json.dumps({**origin, "subsets": rows}, indent=1) + "\n"
  folder.mkdir(parents=True, exist_ok=True)
  atomic.write_text(folder / "subsets.json", text)
  return rows


def draw_maps(
  path: pathlib.Path,
  dataset: records.Dataset,
  split: str,
  maps: Mapping[int, Mapping[str, np.ndarray]],
  tasks: Mapping[str, LabelTask],
) -> None:
  """Draws input | truth | prediction of some patches.

  Args:
    path: PNG to write.
    dataset: converted data.
    split: which of its splits.
    maps: predicted classes [h w] by patch index and task.
    tasks: label tasks of the network by id.
  """
  streams = dataset.splits[split].streams
  sensors = dataset.schema.sensors.values()
  sensor = next(sensor for sensor in sensors if sensor.id in streams)
  rows = []
  for index, prediction in sorted(maps.items()):
    rows.append(
      {
        "title": _patch_id(dataset, split, index),
        "input": _input_image(dataset, split, sensor, index),
        "truth": {
          name: _truth(dataset, split, task, index)
          for name, task in tasks.items()
          if task.stream in streams
        },
        "prediction": prediction,
      }
    )
  figures.draw_patches(path, rows, tasks)


def _truth(
  dataset: records.Dataset, split: str, task: LabelTask, index: int
) -> np.ndarray:
  """Returns the true classes [h w]; other values are not classes."""
  stored = dataset.open_stream(split, task.stream)[index]["labels"]
  return task.label_of_value.take(stored[..., task.band], mode="clip")


def _patch_id(dataset: records.Dataset, split: str, index: int) -> str:
  record = dataset.open_stream(split, "PATCH")[index]
  return json.loads(bytes(record["json"]))["patch_id"]


def _input_image(
  dataset: records.Dataset, split: str, sensor: Sensor, index: int
) -> np.ndarray:
  record = dataset.open_stream(split, sensor.id)[index]
  if "values" not in record:
    return np.full((8, 8, 3), 255, np.uint8)  # the patch lacks the sensor
  values = record["values"]
  if values.ndim == 4:  # the median over the dates removes most clouds
    values = np.nanmedian(values.astype(np.float64), 0)
  return figures.composite(values, sensor.bands)
