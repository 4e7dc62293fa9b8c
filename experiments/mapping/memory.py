"""Memory over time while a raster of 20,000 x 20,000 pixels is mapped.

    python memory.py RUN OUT [--size 20000]

RUN is of a network of one three-band or four-band aerial sensor. Writes a
raster of noise in tiles, maps it in a process of its own, kills that process
twice on the way, and records the resident memory every second. OUT/memory.json
and OUT/memory.png show it.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import psutil
import rasterio
from matplotlib import pyplot as plt
from rasterio import windows

from flairhub_jax import run_directory


def write_raster(path: pathlib.Path, size: int, sensor) -> None:
  """Writes smooth noise, block by block."""
  rng = np.random.default_rng(0)
  with rasterio.open(
    path,
    "w",
    driver="GTiff",
    dtype="uint8",
    count=len(sensor.bands),
    height=size,
    width=size,
    crs="EPSG:2154",
    transform=rasterio.Affine(sensor.gsd, 0, 5e5, 0, -sensor.gsd, 6.6e6),
    tiled=True,
    blockxsize=512,
    blockysize=512,
    bigtiff="if_safer",
    compress="deflate",
    zlevel=1,
  ) as raster:
    for top in range(0, size, 512):
      for left in range(0, size, 512):
        shape = min(512, size - top), min(512, size - left)
        coarse = rng.integers(40, 200, (len(sensor.bands), 16, 16), np.uint8)
        block = coarse.repeat(32, 1).repeat(32, 2)[:, : shape[0], : shape[1]]
        window = windows.Window(left, top, *shape[::-1])
        raster.write(block, window=window)


def watch(argv: list[str], kill_after: float | None) -> list[float]:
  """Runs a command; returns its resident memory in MB, every second."""
  process, memory = subprocess.Popen(argv), []
  start = time.monotonic()
  while process.poll() is None:
    try:
      memory.append(psutil.Process(process.pid).memory_info().rss / 2**20)
    except psutil.NoSuchProcess:
      break
    if kill_after is not None and time.monotonic() - start > kill_after:
      process.kill()
    time.sleep(1)
  process.wait()
  return memory


def main() -> None:
  """Maps the raster and draws the memory."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("run", type=pathlib.Path)
  parser.add_argument("out", type=pathlib.Path)
  parser.add_argument("--size", type=int, default=20_000)
  parser.add_argument("--kill-after", type=float, nargs="*", default=[90, 200])
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  _, config = run_directory.open_run(args.run)
  (name,) = config.data.modalities
  raster = args.out / "raster.tif"
  if not raster.exists():
    write_raster(raster, args.size, config.schema.sensors[name])
  argv = [sys.executable, "-m", "flairhub_jax", "zonal"]
  argv += ["--run", args.run, "--input", raster, "--out", args.out / "map.tif"]
  parts = []
  for limit in [*args.kill_after, None]:
    parts.append(watch(list(map(str, argv)), limit))
  (args.out / "memory.json").write_text(json.dumps(parts) + "\n")
  figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
  start = 0
  for number, part in enumerate(parts):
    axis.plot(
      range(start, start + len(part)), part, label=f"start {number + 1}"
    )
    start += len(part)
  axis.set_xlabel("seconds")
  axis.set_ylabel("resident memory (MB)")
  axis.set_ylim(0)
  axis.set_title(f"map of {args.size} x {args.size} pixels, killed and resumed")
  axis.legend()
  figure.savefig(args.out / "memory.png", dpi=110)


if __name__ == "__main__":
  main()
