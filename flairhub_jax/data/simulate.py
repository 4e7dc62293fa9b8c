"""Simulated data sets in the published layout of FLAIR-HUB.

Folders, names, CSVs, GeoTIFFs and GeoPackages are those of the release, so
whatever reads one reads the other. With another schema, sensors and tasks that
FLAIR-HUB does not have are drawn by the statistics of the schema.
"""

import csv
import dataclasses
import functools
import io
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyogrio.raw

from flairhub_jax import atomic, schema_file, terminal
from flairhub_jax.data import geotiff, workers
from flairhub_jax.data.simulation import plan, views
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import Schema

SPLITS = ("train", "valid", "test")
# Images with dates in the release.
_DATED = {
  "AERIAL_RGBI": "GLOBAL_AERIAL_MTD_DATES.gpkg",
  "AERIAL-RLT_PAN": "GLOBAL_AERIAL-RLT_MTD_DATES.gpkg",
  "SPOT_RGBI": "GLOBAL_SPOT_MTD_DATES.gpkg",
}


def simulate(
  out: str | os.PathLike,
  *,
  schema: Schema = FLAIR_HUB,
  num_patches: int = 250,
  pixels: int = plan.PIXELS,
  modalities: Sequence[str] | None = None,
  seed: int = 0,
  num_workers: int | None = None,
  progress: bool = True,
) -> dict[str, int]:
  """Writes a data set; continues an interrupted one, keeps a finished one.

  Args:
    out: folder to write.
    schema: sensors and label tasks.
    num_patches: over all three splits, at least 10.
    pixels: size of aerial images, elevation and labels. 512 is the real size;
      fewer cover the same 102.4 m with a larger GSD.
    modalities: ids of the sensors; None: all of the schema.
    seed: of everything.
    num_workers: processes; None: as many as cores, 0: this one. The files
      do not depend on it.
    progress: whether a progress bar is shown.

  Returns:
    Patches per split.

  Raises:
    InputError: bad values, or `out` holds something else.
  """
  settings = _checked(schema, num_patches, pixels, modalities, seed)
  if num_workers is not None and num_workers < 0:
    raise InputError("--workers", "0 or more", num_workers)
  out = pathlib.Path(out)
  _claim(out, settings)
  regions = plan.plan_regions(num_patches)
  splits = plan.draw_splits(regions, seed)
  count = os.cpu_count() or 1 if num_workers is None else num_workers
  write_regions(out, regions, splits, settings, count, progress)
  return {
    split: sum(value == split for value in splits.values()) for split in SPLITS
  }


def write_regions(
  out: pathlib.Path,
  regions: Sequence[plan.Region],
  splits: Mapping[str, str],
  settings: plan.Settings,
  num_workers: int = 0,
  progress: bool = True,
) -> None:
  """Writes the patches of regions, their dates, and a CSV per split.

  Args:
    out: an existing folder; files that it holds are kept.
    regions: landscapes of adjacent patches.
    splits: patch -> split.
    settings: of the data set.
    num_workers: processes; 0: this one.
    progress: whether a progress bar is shown.
  """
  work = functools.partial(_write_region, out=out, settings=settings)
  with terminal.progress_bar(
    total=len(splits), desc="simulate", unit="patch", disable=not progress
  ) as bar:
    for _ in workers.run_jobs(work, iter(regions), num_workers, bar.update):
      pass
  _write_dates(out, regions, settings)
  _write_csvs(out, regions, splits, settings)


def _checked(
  schema: Schema,
  num_patches: int,
  pixels: int,
  modalities: Sequence[str] | None,
  seed: int,
) -> plan.Settings:
  if num_patches < 10:
    raise InputError("--patches", "at least 10", num_patches)
  if pixels < 32 or pixels > 512 or pixels % 32:
    raise InputError("--pixels", "a multiple of 32 between 32 and 512", pixels)
  if seed < 0:
    raise InputError("--seed", "0 or more", seed)
  known = schema.sensors
  requested = tuple(known if modalities is None else modalities)
  unknown = [name for name in requested if name not in known]
  if unknown or not requested:
    raise InputError(
      "--modalities", f"some of {', '.join(known)}", unknown or "none"
    )
  ordered = tuple(name for name in known if name in requested)
  return plan.Settings(num_patches, pixels, ordered, seed, schema)


def _claim(out: pathlib.Path, settings: plan.Settings) -> None:
  marker = out / "simulation.json"
  content = {
    field.name: getattr(settings, field.name)
    for field in dataclasses.fields(settings)
    if field.name != "schema"
  }
  if settings.schema != FLAIR_HUB:
    content["schema"] = schema_file.to_json(settings.schema)
  text = json.dumps(content, indent=2) + "\n"
  if marker.is_file():
    found = marker.read_text(encoding="utf-8")
    if found != text:
      raise InputError(
        out, f"a simulation of {' '.join(text.split())}",
        " ".join(found.split()),
      )  # fmt: skip
    return
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise InputError(out, "an empty folder or a simulation", "other files")
  out.mkdir(parents=True, exist_ok=True)
  atomic.write_text(marker, text)


def _write_region(
  region: plan.Region,
  on_patches: Callable[[int], None],
  out: pathlib.Path,
  settings: plan.Settings,
) -> None:
  """Writes all files of a region, unless they are all there."""
  names = file_kinds(settings)
  missing = [
    (name, patch)
    for name, patch in itertools.product(names, region.patches)
    if not (out / plan.relative_path(region, name, patch)).exists()
  ]
  arrays = views.render(region, settings) if missing else {}
  for name, patch in missing:
    values = arrays[name]
    size = values.shape[0] // region.shape[0]
    part = values[
      patch[0] * size : (patch[0] + 1) * size,
      patch[1] * size : (patch[1] + 1) * size,
    ]
    east, north = region.corner
    pixel, metres = settings.step(name, size), settings.metres
    path = out / plan.relative_path(region, name, patch)
    path.parent.mkdir(parents=True, exist_ok=True)
    geotiff.write_raster(
      path,
      part,
      geotiff.Georeference(
        crs=plan.CRS,
        transform=(
          pixel, 0.0, east + patch[1] * metres,
          0.0, -pixel, north - patch[0] * metres,
        ),
        height=size,
        width=size,
      ),
    )  # fmt: skip
  on_patches(len(region.patches))


def file_kinds(settings: plan.Settings) -> tuple[str, ...]:
  """Sensors, their quality masks, and all labels."""
  masks = [
    mask
    for mask, sensor in settings.schema.quality_masks.items()
    if sensor.id in settings.modalities
  ]
  labels = settings.schema.label_columns
  return tuple(sorted((*settings.modalities, *masks, *labels)))


def _write_dates(
  out: pathlib.Path, regions: Sequence[plan.Region], settings: plan.Settings
) -> None:
  folder = out / "GLOBAL_ALL_MTD"
  folder.mkdir(exist_ok=True)
  patches = [(r, patch) for r in regions for patch in r.patches]
  ids = np.array([plan.patch_id(*pair) for pair in patches], object)
  squares = np.array(
    [_square(*pair, settings.metres) for pair in patches], object
  )
  for name in settings.modalities:
    sensor = settings.schema.sensors[name]
    file = sensor.dates if sensor.is_series else _DATED.get(name)
    if file is None:
      continue
    texts = []
    for region, _ in patches:
      days = plan.draw_dates(region, sensor, settings.seed)
      numbered = {str(n): f"{day:%Y%m%d}" for n, day in enumerate(days, 1)}
      texts.append(json.dumps(numbered) if sensor.is_series else numbered["1"])
    field = "acquisition_dates" if sensor.is_series else "date"
    fields = {"patch_id": ids, field: np.array(texts, object)}
    if file.lower().endswith(".csv"):
      rows = zip(*fields.values(), strict=True)
      _write_csv(folder / file, list(fields), rows)
    else:
      _write_table(folder / file, squares, fields)
  splits = plan.draw_splits(regions, settings.seed)
  named = np.array([splits[name] for name in ids], object)
  _write_table(
    folder / "GLOBAL_ALL_MTD_SPLIT.gpkg",
    squares,
    {"patch_id": ids, "split_1": named},
  )


def _square(
  region: plan.Region, patch: tuple[int, int], metres: float
) -> bytes:
  """Footprint of a patch as a WKB polygon."""
  east, north = region.corner
  left, top = east + patch[1] * metres, north - patch[0] * metres
  right, bottom = left + metres, top - metres
  ring = [left, top, right, top, right, bottom, left, bottom, left, top]
  header = b"\x01" + np.array([3, 1, 5], "<u4").tobytes()
  return header + np.array(ring, "<f8").tobytes()


def _write_table(
  path: pathlib.Path, squares: np.ndarray, fields: dict[str, np.ndarray]
) -> None:
  if path.exists():
    return
  # The format holds the time of writing; the same seed gives the same bytes.
  pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2025-01-01T00:00:00Z"})
  with atomic.write_aside(path) as aside:
    pyogrio.raw.write(
      aside,
      geometry=squares,
      field_data=list(fields.values()),
      fields=list(fields),
      geometry_type="Polygon",
      crs=plan.CRS,
      driver="GPKG",
      layer=path.stem,
    )


def _write_csvs(
  out: pathlib.Path,
  regions: Sequence[plan.Region],
  splits: Mapping[str, str],
  settings: plan.Settings,
) -> None:
  (out / "csv").mkdir(exist_ok=True)
  kinds = file_kinds(settings)
  for split in SPLITS:
    path = csv_path(out, split)
    rows = []
    for region, patch in ((r, p) for r in regions for p in r.patches):
      name = plan.patch_id(region, patch)
      if splits[name] == split:
        paths = [f"../{plan.relative_path(region, k, patch)}" for k in kinds]
        rows.append([name, *paths])
    _write_csv(path, ["patch_id", *kinds], rows)


def _write_csv(
  path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
  if path.exists():
    return
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(header)
  writer.writerows(rows)
  atomic.write_text(path, text.getvalue())


def csv_path(out: str | os.PathLike, split: str) -> pathlib.Path:
  """Split file of a simulated data set."""
  return pathlib.Path(out) / "csv" / f"FLAIR-HUB_SIMULATED_{split.upper()}.csv"
