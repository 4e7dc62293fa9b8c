"""Writes a few small patches in the published layout, for tests."""

import csv
import dataclasses
import datetime
import json
import pathlib

import numpy as np
import pyogrio.raw

from flairhub_jax.configs import base
from flairhub_jax.data import convert, geotiff, pipeline
from flairhub_jax.flair_hub import FLAIR_HUB

MASK = "SENTINEL2_MSK-SC"

PIXELS = {
  "AERIAL_RGBI": 16,
  "AERIAL-RLT_PAN": 8,
  "DEM_ELEV": 16,
  "SPOT_RGBI": 4,
  "SENTINEL2_TS": 2,
  "SENTINEL1-ASC_TS": 2,
  "SENTINEL1-DESC_TS": 2,
  MASK: 2,
  "AERIAL_LABEL-COSIA": 16,
  "ALL_LABEL-LPIS": 16,
}
METRES = 102.4
NUM_DATES = 3


@dataclasses.dataclass
class Layout:
  """The tree below `folder`; `rows` are the rows of `csv`."""

  folder: pathlib.Path
  csv: pathlib.Path
  rows: list[dict[str, str]]

  def file(self, column: str, row: int) -> pathlib.Path:
    return self.csv.parent / self.rows[row][column]

  def dates_file(self, sensor: str) -> pathlib.Path:
    return self.folder / "GLOBAL_ALL_MTD" / f"GLOBAL_{sensor}_MTD_DATES.gpkg"

  def write_csv(self) -> None:
    with open(self.csv, "w", encoding="utf-8", newline="") as file:
      writer = csv.DictWriter(file, list(self.rows[0]))
      writer.writeheader()
      writer.writerows(self.rows)


def georeference(column, row, *, shift=0.0, crs="EPSG:2154"):
  pixels = PIXELS[column]
  step = METRES / pixels
  x = 700_000 + METRES * row + shift
  return geotiff.Georeference(
    crs, (step, 0.0, x, 0.0, -step, 6_300_000.0), pixels, pixels
  )


def write(path, values, column, row, **place):
  place = georeference(column, row, **place)
  place = dataclasses.replace(
    place, height=values.shape[0], width=values.shape[1]
  )
  geotiff.write_raster(path, values, place)


def write_dates(path, dates_by_patch, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  pyogrio.raw.write(
    path,
    geometry=None,
    field_data=[
      np.array(list(dates_by_patch), object),
      np.array(list(dates_by_patch.values()), object),
    ],
    fields=["patch_id", "acquisition_dates"],
    driver="GPKG",
    layer="dates",
    **options,
  )


def values_of(column, row):
  """Returns [h w c] values that differ from patch to patch."""
  rng = np.random.default_rng([row, sorted(PIXELS).index(column)])
  pixels = PIXELS[column]
  if column in FLAIR_HUB.label_columns:
    task = FLAIR_HUB.tasks[column]
    shape = (pixels, pixels, task.num_bands)
    return rng.integers(0, task.num_classes, shape, np.uint8)
  if column == MASK:
    shape = (pixels, pixels, NUM_DATES * 2)
    return rng.integers(0, 101, shape, np.uint8)
  sensor = FLAIR_HUB.sensors[column]
  num_dates = NUM_DATES if sensor.is_series else 1
  shape = (pixels, pixels, num_dates * len(sensor.bands))
  return (rng.random(shape) * 200).astype(sensor.dtype)


def write_layout(folder, *, num_patches=3, columns=tuple(PIXELS)) -> Layout:
  """Writes the tree, `csv/TRAIN.csv` and the dates."""
  rows = []
  for row in range(num_patches):
    patch_id = f"D001-2019_AF-S1-1_0-{row}"
    cells = {"patch_id": patch_id}
    for column in columns:
      name = f"D001-2019_{column}"
      path = folder / name / "AF-S1-1" / f"{name}_AF-S1-1_0-{row}.tif"
      path.parent.mkdir(parents=True, exist_ok=True)
      write(path, values_of(column, row), column, row)
      cells[column] = f"../{path.relative_to(folder)}"
    rows.append(cells)
  days = [datetime.date(2019, 1, 1 + 5 * i) for i in range(NUM_DATES)]
  text = json.dumps({str(i): f"{d:%Y%m%d}" for i, d in enumerate(days)})
  layout = Layout(folder, folder / "csv" / "TRAIN.csv", rows)
  for sensor in ("SENTINEL2", "SENTINEL1-ASC", "SENTINEL1-DESC"):
    if f"{sensor}_TS" in columns:
      write_dates(
        layout.dates_file(sensor), {row["patch_id"]: text for row in rows}
      )
  layout.csv.parent.mkdir(parents=True, exist_ok=True)
  layout.write_csv()
  return layout


def contents(folder):
  """Returns relative path -> bytes of every file below `folder`."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def run(layout, out, num_workers=0, split="train", progress=False, **options):
  """Converts a layout as one split."""
  return convert.convert(
    {split: layout.csv},
    out,
    cloud_filter=pipeline.build_cloud_filter(
      base.get_config().data.cloud_filter
    ),
    num_workers=num_workers,
    progress=progress,
    **options,
  )
