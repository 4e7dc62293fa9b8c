"""Writes the Chesapeake sample as a user would bring it.

    python chesapeake.py SAMPLE OUT

Three-band orthophotos (RGB.tif) and native labels of one value per class
(LABEL.tif), without the fourth band and without FLAIR-HUB's class values.
"""

import csv
import pathlib
import sys
import warnings

import rasterio
import rasterio.errors

warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)


def main(sample: pathlib.Path, out: pathlib.Path) -> None:
  """Writes the rasters and a CSV per split."""
  out.mkdir(parents=True)
  for split in ("TRAIN", "VALID"):
    with open(sample / "csv" / f"{split}.csv") as file:
      patches = [row["patch_id"] for row in csv.DictReader(file)]
    with open(out / f"{split.lower()}.csv", "w") as file:
      print("patch_id,ORTHO_RGB,LABEL", file=file)
      for patch in patches:
        print(f"{patch},{patch}_RGB.tif,{patch}_LABEL.tif", file=file)
    for patch in patches:
      copy(find(sample, "AERIAL_RGBI", patch), out / f"{patch}_RGB.tif", 3)
      copy(find(sample, "LABEL-NATIVE", patch), out / f"{patch}_LABEL.tif", 1)


def find(sample: pathlib.Path, product: str, patch: str) -> pathlib.Path:
  """Returns the file of a patch in the published layout."""
  domain, roi, number = patch.split("_")
  folder = sample / f"{domain}_{product}" / roi
  return folder / f"{domain}_{product}_{roi}_{number}.tif"


def copy(source: pathlib.Path, target: pathlib.Path, num_bands: int) -> None:
  """Copies the first bands of a GeoTIFF."""
  with rasterio.open(source) as raster:
    values = raster.read(list(range(1, num_bands + 1)))
  _, height, width = values.shape
  with rasterio.open(
    target,
    "w",
    driver="GTiff",
    dtype=values.dtype,
    count=num_bands,
    height=height,
    width=width,
  ) as raster:
    raster.write(values)


if __name__ == "__main__":
  main(*map(pathlib.Path, sys.argv[1:]))
