"""Checks that a patch of FLAIR#2 read by the shipped schema has COSIA's labels.

    python flair2.py SAMPLE OUT

The sample is the figure of FLAIR#2's README: red, green and blue of one patch,
and its label decoded to 0-12 (0: building). Published files hold 1-13 and two
more bands, so the values are raised by one (what could not be decoded, 255, is
`other`), and the sensor of the schema is cut to the bands at hand.
"""

import pathlib
import sys

import geotiffs
import numpy as np

from flairhub_jax import schema_file
from flairhub_jax.data import convert
from flairhub_jax.flair_challenges import FLAIR_2
from flairhub_jax.schema import Schema

PATCH, BANDS = "D903-0000_RM-S1-1_1-1", ("R", "G", "B")
OTHER = 19


def main(sample: pathlib.Path, out: pathlib.Path) -> None:
  """Converts the patch and compares its labels."""
  out.mkdir(parents=True)
  native = geotiffs.read(sample, "AERIAL_LABEL-NATIVE", PATCH)
  stored = np.where(native >= 12, OTHER, native + 1).astype(np.uint8)
  geotiffs.write(out / "label.tif", stored)
  geotiffs.write(out / "image.tif", geotiffs.read(sample, "AERIAL_RGBI", PATCH))
  (out / "patch.csv").write_text(
    f"patch_id,AERIAL_RGBIE,FLAIR_LABEL\n{PATCH},image.tif,label.tif\n"
  )
  schema = with_bands(FLAIR_2, BANDS)
  (out / "schema.json").write_text(
    schema_file.dumps(schema_file.to_json(schema))
  )
  dataset = convert.convert(
    {"test": out / "patch.csv"},
    out / "records",
    schema=schema,
    num_workers=0,
  )
  record = dataset.open_stream("test", "FLAIR_LABEL")[0]["labels"][..., 0]
  task = dataset.schema.tasks["AERIAL_LABEL-COSIA"]
  labels, cosia = (
    task.label_of_value[record],
    geotiffs.read(sample, "AERIAL_LABEL-COSIA", PATCH)[0],
  )
  print(f"{(labels == cosia).sum():,} of {cosia.size:,} labels equal COSIA's")
  for index, name in enumerate(task.class_names):
    if (cosia == index).any():
      print(f"  {name}: {(cosia == index).sum():,} pixels")


def with_bands(schema: Schema, bands: tuple[str, ...]) -> Schema:
  """Returns a schema whose first sensor has only these bands."""
  sensor = schema.sensors["AERIAL_RGBIE"]
  sensor = sensor.model_copy(
    update={
      "bands": bands,
      "mean": {band: sensor.mean[band] for band in bands},
      "std": {band: sensor.std[band] for band in bands},
    }
  )
  tasks = tuple(schema.tasks.values())
  return Schema(name=f"{schema.name}, RGB", sensors=(sensor,), tasks=tasks)


if __name__ == "__main__":
  main(*map(pathlib.Path, sys.argv[1:]))
