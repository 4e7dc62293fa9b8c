"""Writes the Chesapeake sample as data of another sensor and other classes.

    python chesapeake.py SAMPLE OUT

Three-band orthophotos (RGB.tif) and native labels of one value per class
(LABEL.tif), without the fourth band and without FLAIR-HUB's class values.
"""

import csv
import pathlib
import sys

import geotiffs


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
      image = geotiffs.read(sample, "AERIAL_RGBI", patch)
      geotiffs.write(out / f"{patch}_RGB.tif", image[:3])
      label = geotiffs.read(sample, "LABEL-NATIVE", patch)
      geotiffs.write(out / f"{patch}_LABEL.tif", label)


if __name__ == "__main__":
  main(*map(pathlib.Path, sys.argv[1:]))
