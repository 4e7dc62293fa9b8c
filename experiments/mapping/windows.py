"""Score, seams and time of maps by window size, overlap and margin.

    python windows.py OUT

OUT is the folder of region.sh; maps a square of 1.2 km of its region in every
way. Sizes are in pixels of 0.8 m: windows of 128, 192 and 256 cover the ground
of 512, 768 and 1024 pixels of 0.2 m. Writes OUT/windows.json and prints a
table.
"""

import json
import pathlib
import sys
import time

import numpy as np
import pandas as pd
import rasterio
import rasterio.windows
import rasters

from flairhub_jax import __main__, metrics
from flairhub_jax.flair_hub import FLAIR_HUB

TASK = FLAIR_HUB.tasks["AERIAL_LABEL-COSIA"]
SIZE = 1536  # pixels of the square
# Window and flags of each way; the offset moves all windows over the ground.
WAYS = {
  "hard cuts": ("--margin", 0),
  "margin of 1/8": ("--margin", 1 / 8),
  "blended, overlap 1/4": ("--overlap", 1 / 4),
  "blended, overlap 1/2": ("--overlap", 1 / 2),
}
WINDOWS = (128, 192, 256)
OFFSET = 48


def make_map(out, path, window, way, offset) -> float:
  """Maps the square, from `offset` pixels before it; returns the seconds."""
  rasters = out / "region" / "rasters"
  with rasterio.open(out / "region" / "truth" / f"{TASK.id}.tif") as raster:
    corner = raster.transform @ np.array([512 - offset, 512 - offset, 1])
    pixel = raster.transform.a
  left, top = (float(x) for x in corner[:2])
  far = pixel * (SIZE + offset)
  flag, share = WAYS[way]
  argv = ["-q", "zonal", "--run", out / "run", "--out", path]
  for name in ("SENTINEL2_TS", "SENTINEL1-ASC_TS"):
    argv += ["--input", f"{name}={rasters / name}.tif"]
    argv += ["--dates", f"{name}={rasters / name}.txt"]
  argv += ["--mask", f"SENTINEL2_TS={rasters / 'SENTINEL2_MSK-SC.tif'}"]
  argv += ["--input", f"AERIAL_RGBI={rasters / 'AERIAL_RGBI'}"]
  for name in ("DEM_ELEV", "SPOT_RGBI"):
    argv += ["--input", f"{name}={rasters / name}.tif"]
  argv += ["--window", window, flag, round(share * window), "--bounds"]
  argv += [left, top - far, left + far, top]
  start = time.perf_counter()
  assert __main__.main(list(map(str, argv))) == 0
  return time.perf_counter() - start


def read(path, offset=0) -> np.ndarray:
  """Returns the classes of the square, without what lies before it."""
  return rasters.read(path)[offset : offset + SIZE, offset : offset + SIZE]


def main(out: pathlib.Path) -> None:
  """Maps the square in all ways."""
  folder = out / "windows"
  folder.mkdir(exist_ok=True)
  window = rasterio.windows.Window(512, 512, SIZE, SIZE)
  truth = rasters.read(out / "region" / "truth" / f"{TASK.id}.tif", 1, window)
  rows = []
  for window in WINDOWS:
    for way in WAYS:
      name = f"{window}-{way.replace(' ', '_').replace('/', '_')}"
      maps, seconds = [], []
      for offset in (0, OFFSET):
        path = folder / f"{name}-{offset}.tif"
        seconds.append(make_map(out, path, window, way, offset))
        maps.append(read(path.with_stem(f"{path.stem}_{TASK.id}"), offset))
      confusion = rasters.confusion(truth, maps[0], TASK.num_classes)
      score = metrics.score(confusion, TASK.scored)
      occurs = score.support > 0
      rows.append(
        {
          "window": window,
          "way": way,
          "OA": score.overall_accuracy,
          "mIoU": float(score.iou[occurs].mean()),
          "changed by offset (%)": 100 * float(np.mean(maps[0] != maps[1])),
          "seconds": min(seconds),
        }
      )
      print(rows[-1], flush=True)
  (out / "windows.json").write_text(json.dumps(rows, indent=2) + "\n")
  print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
