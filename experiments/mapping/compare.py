"""Scores maps of the simulated region, and its patches, against its truth.

    python compare.py OUT

OUT is the folder of region.sh. Writes OUT/scores.json and OUT/detail.png, and
prints a table.
"""

import json
import pathlib
import re
import sys

import numpy as np
import pandas as pd
import rasterio
import rasters
from matplotlib import pyplot as plt

from flairhub_jax import metrics
from flairhub_jax.figures import maps as figures
from flairhub_jax.flair_hub import FLAIR_HUB

TASKS = ("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS")
WAYS = {"blended": "map, blended", "cut": "map, hard cuts"}
PATCH = re.compile(r"_(\d+)-(\d+)(?:_|\.)")
# Pixels of the detail, from its upper left corner.
DETAIL = np.s_[420:1060, 380:1020]


def read_patches(folder: pathlib.Path, task: str) -> np.ndarray:
  """Joins the predictions of all patches."""
  parts = {}
  for path in folder.rglob("*.tif"):
    if task in path.name or task in path.parent.name:
      row, column = map(int, PATCH.findall(path.name)[-1])
      parts[row, column] = rasters.read(path)
  size = 1 + max(row for row, _ in parts)
  return np.block([[parts[r, c] for c in range(size)] for r in range(size)])


def seams(classes: np.ndarray, step: int) -> float:
  """Class changes across borders of patches, relative to those elsewhere."""
  changes = classes[:, 1:] != classes[:, :-1]
  is_border = (np.arange(1, classes.shape[1]) % step) == 0
  return float(changes[:, is_border].mean() / changes[:, ~is_border].mean())


def main(out: pathlib.Path) -> None:
  """Computes and prints the scores."""
  rows, detail = [], []
  for name in TASKS:
    task = FLAIR_HUB.tasks[name]
    truth = rasters.read(
      out / "region" / "truth" / f"{name}.tif", task.band + 1
    )
    maps = {"truth": truth, "patches": read_patches(out / "patches", name)}
    for folder, way in WAYS.items():
      maps[way] = rasters.read(out / folder / f"map_{name}.tif")
    for way, classes in maps.items():
      confusion = rasters.confusion(truth, classes, task.num_classes)
      score = metrics.score(confusion, task.scored)
      occurs = score.support > 0
      rows.append(
        {
          "task": task.short_name,
          "map": way,
          "pixels": int(confusion.sum()),
          "OA": score.overall_accuracy,
          "mIoU of occurring classes": float(score.iou[occurs].mean()),
          "seams": seams(classes, 128),
          "equal to patches": 100 * float((classes == maps["patches"]).mean()),
        }
      )
    if not detail:
      detail = [(way, task.palette[m[DETAIL]]) for way, m in maps.items()]
  table = pd.DataFrame(rows)
  print(table.to_markdown(index=False, floatfmt=".2f"))
  (out / "scores.json").write_text(json.dumps(rows, indent=2) + "\n")
  draw(out, detail)


def draw(out: pathlib.Path, panels: list[tuple[str, np.ndarray]]) -> None:
  """Draws a part of the region: image, truth and all maps."""
  tile = out / "region" / "rasters" / "AERIAL_RGBI" / "0-0.tif"
  with rasterio.open(tile) as raster:
    image = np.moveaxis(raster.read((1, 2, 3)), 0, -1)[DETAIL]
  panels = [("image", figures.composite(image, ("R", "G", "B"))), *panels]
  figure, axes = plt.subplots(
    1, len(panels), figsize=(3.4 * len(panels), 3.8), layout="constrained"
  )
  for axis, (title, picture) in zip(axes, panels, strict=True):
    axis.imshow(picture, interpolation="nearest")
    axis.set_title(title)
    axis.set_xticks([])
    axis.set_yticks([])
  figure.savefig(out / "detail.png", dpi=90)


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
