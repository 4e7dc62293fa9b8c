"""Writes a simulated region twice: as patches and as rasters of many grids.

    python simulate_region.py OUT [--patches 40]

OUT/raw is a data set in FLAIR-HUB's layout whose test split is the region, of
N x N patches of 102.4 m at the pixels of the quickstart (0.8 m). OUT/rasters
holds the same ground as somebody would have it: sixteen aerial tiles, one
raster per other sensor, each with its own extent and pixels; OUT/truth the
labels as two rasters.
"""

import argparse
import pathlib

import numpy as np

from flairhub_jax.data import geotiff, simulate
from flairhub_jax.data.simulation import plan, views
from flairhub_jax.flair_hub import FLAIR_HUB

PIXELS = 128
MODALITIES = (
  "AERIAL_RGBI",
  "DEM_ELEV",
  "SPOT_RGBI",
  "SENTINEL2_TS",
  "SENTINEL1-ASC_TS",
)
# Metres cut off at the left, top, right and bottom of each raster.
CUTS = {
  "DEM_ELEV": (40.0, 0.0, 12.8, 80.0),
  "SPOT_RGBI": (0.0, 32.0, 64.0, 16.0),
  "SENTINEL2_TS": (20.48, 30.72, 0.0, 10.24),
  "SENTINEL2_MSK-SC": (20.48, 30.72, 0.0, 10.24),
  "SENTINEL1-ASC_TS": (0.0, 0.0, 40.96, 51.2),
}
# A domain whose flight the training patches do not show.
DOMAIN, ALTITUDE, NAME = "D012-2019", 480.0, "AU-S1-91"


def main() -> None:
  """Writes all files."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("out", type=pathlib.Path)
  parser.add_argument("--patches", type=int, default=40, help="along a side")
  args = parser.parse_args()
  size = args.patches
  region = plan.Region(
    number=90,
    domain=DOMAIN,
    altitude=ALTITUDE,
    name=NAME,
    patches=tuple(divmod(index, size) for index in range(size * size)),
    split="test",
    num_columns=size,
  )
  settings = plan.Settings(size * size, PIXELS, MODALITIES, 0, FLAIR_HUB)
  splits = {plan.patch_id(region, patch): "test" for patch in region.patches}
  (args.out / "raw").mkdir(parents=True, exist_ok=True)
  simulate.write_regions(args.out / "raw", [region], splits, settings)
  arrays = views.render(region, settings)
  for name in (*MODALITIES, "SENTINEL2_MSK-SC"):
    write_sensor(args.out / "rasters", name, arrays[name], region, settings)
  for name in FLAIR_HUB.label_columns:
    path = args.out / "truth" / f"{name}.tif"
    write_part(path, arrays[name], region, settings, (0, 0))
  for name in MODALITIES[3:]:
    days = plan.draw_dates(region, FLAIR_HUB.sensors[name], settings.seed)
    text = "".join(f"{day:%Y%m%d}\n" for day in days)
    (args.out / "rasters" / f"{name}.txt").write_text(text)


def write_sensor(folder, name, values, region, settings) -> None:
  """Writes tiles with an overlap of 16 pixels, or one raster without edges."""
  if name == "AERIAL_RGBI":
    side = -(-values.shape[0] // 4)
    for row, column in np.ndindex(4, 4):
      top, left = row * side, column * side
      tile = values[top : top + side + 16, left : left + side + 16]
      path = folder / name / f"{row}-{column}.tif"
      write_part(path, tile, region, settings, (top, left), len(values))
    return
  metres = settings.metres * region.shape[0] / values.shape[0]
  left, top, right, bottom = (round(cut / metres) for cut in CUTS[name])
  part = values[top : len(values) - bottom, left : values.shape[1] - right]
  path = folder / f"{name}.tif"
  write_part(path, part, region, settings, (top, left), len(values))


def write_part(path, values, region, settings, corner, size=None) -> None:
  """Writes a part of the region, from a (row, column) of its pixels."""
  metres = settings.metres * region.shape[0] / (size or len(values))
  east, north = region.corner
  path.parent.mkdir(parents=True, exist_ok=True)
  geotiff.write_raster(
    path,
    values,
    geotiff.Georeference(
      crs=plan.CRS,
      transform=(
        metres, 0.0, east + corner[1] * metres,
        0.0, -metres, north - corner[0] * metres,
      ),
      height=values.shape[0],
      width=values.shape[1],
    ),
  )  # fmt: skip


if __name__ == "__main__":
  main()
