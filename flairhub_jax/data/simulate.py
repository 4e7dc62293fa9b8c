"""Simulated data sets in the published layout of FLAIR-HUB.

Folders, names, CSVs, GeoTIFFs and GeoPackages are those of the release, so
whatever reads one reads the other.
"""

import csv
import dataclasses
import functools
import io
import itertools
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyogrio.raw

from flairhub_jax import atomic, terminal
from flairhub_jax.data import geotiff, workers
from flairhub_jax.data.simulation import any_sensor, plan, sensors
from flairhub_jax.data.simulation import scene as scene_lib
from flairhub_jax.errors import InputError
from flairhub_jax.modalities import (
  CRS,
  MASKED_MODALITY,
  MODALITIES,
  PATCH_METRES,
  SNOW_CLOUD_MASK,
)

SPLITS = ("train", "valid", "test")
_LABELS = ("AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS")
# Level-1 background and mixed crops -> their values on levels 2 and 3.
_OTHER_LEVELS = {22: (30, 45), 21: (29, 44)}
_SENTINELS = ("SENTINEL2_TS", "SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS")
# Names of files of dates that differ from the modality's name.
_DATED = {
  "AERIAL_RGBI": "AERIAL",
  "AERIAL-RLT_PAN": "AERIAL-RLT",
  "SPOT_RGBI": "SPOT",
}
# Without dates in the release.
_UNDATED = ("DEM_ELEV",)


@dataclasses.dataclass(frozen=True)
class Settings:
  """Everything that determines a simulated data set."""

  num_patches: int
  pixels: int
  modalities: tuple[str, ...]
  seed: int


def simulate(
  out: str | os.PathLike,
  *,
  num_patches: int = 250,
  pixels: int = 512,
  modalities: Sequence[str] | None = None,
  seed: int = 0,
  num_workers: int | None = None,
  progress: bool = True,
) -> dict[str, int]:
  """Writes a data set; continues an interrupted one, keeps a finished one.

  Args:
    out: folder to write.
    num_patches: over all three splits, at least 10.
    pixels: size of aerial images, elevation and labels. 512 is the real size;
      fewer cover the same 102.4 m with a larger GSD.
    modalities: published ids; None: all seven.
    seed: of everything.
    num_workers: processes; None: as many as cores, 0: this one. The files
      do not depend on it.
    progress: whether a progress bar is shown.

  Returns:
    Patches per split.

  Raises:
    InputError: bad values, or `out` holds something else.
  """
  settings = _checked(num_patches, pixels, modalities, seed)
  if num_workers is not None and num_workers < 0:
    raise InputError("--workers", "0 or more", num_workers)
  out = pathlib.Path(out)
  _claim(out, settings)
  regions = plan.plan_regions(num_patches)
  splits = plan.draw_splits(regions, seed)
  work = functools.partial(_write_region, out=out, settings=settings)
  count = os.cpu_count() or 1 if num_workers is None else num_workers
  with terminal.progress_bar(
    total=num_patches, desc="simulate", unit="patch", disable=not progress
  ) as bar:
    for _ in workers.run_jobs(work, iter(regions), count, bar.update):
      pass
  _write_dates(out, regions, settings)
  _write_csvs(out, regions, splits, settings)
  return {
    split: sum(value == split for value in splits.values()) for split in SPLITS
  }


def _checked(
  num_patches: int, pixels: int, modalities: Sequence[str] | None, seed: int
) -> Settings:
  if num_patches < 10:
    raise InputError("--patches", "at least 10", num_patches)
  if pixels < 32 or pixels > 512 or pixels % 32:
    raise InputError("--pixels", "a multiple of 32 between 32 and 512", pixels)
  if seed < 0:
    raise InputError("--seed", "0 or more", seed)
  wanted = tuple(MODALITIES if modalities is None else modalities)
  unknown = [name for name in wanted if name not in MODALITIES]
  if unknown or not wanted:
    raise InputError(
      "--modalities", f"some of {', '.join(MODALITIES)}", unknown or "none"
    )
  ordered = tuple(name for name in MODALITIES if name in wanted)
  return Settings(num_patches, pixels, ordered, seed)


def _claim(out: pathlib.Path, settings: Settings) -> None:
  marker = out / "simulation.json"
  text = json.dumps(dataclasses.asdict(settings), indent=2) + "\n"
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
  settings: Settings,
) -> None:
  """Writes all files of a region, unless they are all there."""
  names = file_kinds(settings.modalities)
  missing = [
    (name, patch)
    for name, patch in itertools.product(names, region.patches)
    if not (out / plan.relative_path(region, name, patch)).exists()
  ]
  arrays = _see(region, settings) if missing else {}
  for name, patch in missing:
    values = arrays[name]
    size = values.shape[0] // region.shape[0]
    part = values[
      patch[0] * size : (patch[0] + 1) * size,
      patch[1] * size : (patch[1] + 1) * size,
    ]
    east, north = region.corner
    pixel = PATCH_METRES / size
    path = out / plan.relative_path(region, name, patch)
    path.parent.mkdir(parents=True, exist_ok=True)
    geotiff.write_raster(
      path,
      part,
      geotiff.Georeference(
        crs=CRS,
        transform=(
          pixel, 0.0, east + patch[1] * PATCH_METRES,
          0.0, -pixel, north - patch[0] * PATCH_METRES,
        ),
        height=size,
        width=size,
      ),
    )  # fmt: skip
  on_patches(len(region.patches))


def file_kinds(modalities: Sequence[str]) -> tuple[str, ...]:
  """Modalities, the cloud mask where it belongs, and both labels."""
  mask = (SNOW_CLOUD_MASK,) if MASKED_MODALITY in modalities else ()
  return tuple(sorted((*modalities, *mask, *_LABELS)))


def _see(region: plan.Region, settings: Settings) -> dict[str, np.ndarray]:
  """Every file kind over the whole region, [h w c]."""
  rows, columns = region.shape
  # Each sensor draws from a stream of its own: leaving one out changes none.
  streams = np.random.SeedSequence([settings.seed, region.number]).spawn(8)
  rngs = [np.random.default_rng(stream) for stream in streams]
  scene = scene_lib.build_scene(
    rngs[0],
    (rows * settings.pixels, columns * settings.pixels),
    PATCH_METRES / settings.pixels,
    region.name[0],
    region.altitude,
  )
  crops = np.stack([scene.crop] * 3, -1)
  for value, levels in _OTHER_LEVELS.items():
    crops[scene.crop == value, 1:] = levels
  arrays = {_LABELS[0]: scene.cover[..., None], _LABELS[1]: crops}
  domain = int(region.domain[1:4])
  air = sensors.draw_atmosphere(np.random.default_rng([settings.seed, domain]))
  half = (rows * settings.pixels // 2, columns * settings.pixels // 2)
  known: dict[str, Callable[[Any], Any]] = {
    "AERIAL_RGBI": lambda rng: sensors.aerial(rng, scene, air),
    "DEM_ELEV": lambda rng: sensors.elevation(rng, scene),
    "SPOT_RGBI": lambda rng: sensors.spot(
      rng, scene, (rows * 64, columns * 64)
    ),
    plan.HISTORICAL: lambda rng: sensors.historical(rng, scene, half),
  }
  known |= {
    name: functools.partial(_see_sentinel, name, region, settings, scene)
    for name in _SENTINELS
  }
  streams = dict(zip(known, rngs[1:], strict=True))
  for name in settings.modalities:
    if name in known:
      seen = known[name](streams[name])
      arrays |= seen if isinstance(seen, dict) else {name: seen}
    else:
      arrays[name] = _see_other(name, region, settings, scene)
  return arrays


def _see_sentinel(
  name: str,
  region: plan.Region,
  settings: Settings,
  scene: scene_lib.Scene,
  rng: np.random.Generator,
) -> dict[str, np.ndarray]:
  """A series of Sentinel with its cloud mask, where it has one."""
  rows, columns = region.shape
  pairs, fractions = sensors.cover_fractions(scene, (10 * rows, 10 * columns))
  days = _days(region, name, settings)
  if name == MASKED_MODALITY:
    series, mask = sensors.sentinel2(
      rng, pairs, fractions, days, region.altitude
    )
    return {name: _stack(series), SNOW_CLOUD_MASK: _stack(mask)}
  orbit = 0.5 if "ASC" in name else -0.7
  return {name: _stack(sensors.sentinel1(rng, pairs, fractions, days, orbit))}


def _see_other(
  name: str, region: plan.Region, settings: Settings, scene: scene_lib.Scene
) -> np.ndarray:
  """A sensor that is only known from the table."""
  row = MODALITIES[name]
  size = min(row.pixels, settings.pixels)
  rows, columns = region.shape
  pairs, fractions = sensors.cover_fractions(
    scene, (size * rows, size * columns)
  )
  key = [settings.seed, region.number, zlib.crc32(name.encode())]
  rng = np.random.default_rng(key)
  if not row.is_series:
    return any_sensor.image(rng, row, pairs, fractions)
  days = _days(region, name, settings)
  return _stack(any_sensor.series(rng, row, pairs, fractions, days))


def _days(region: plan.Region, name: str, settings: Settings) -> np.ndarray:
  """Day of the year of each date of a series."""
  dates = plan.draw_dates(region, name, settings.seed)
  return np.array([date.timetuple().tm_yday for date in dates])


def _stack(series: np.ndarray) -> np.ndarray:
  """[t h w c] as files hold it, [h w t*c]."""
  t, h, w, c = series.shape
  return np.moveaxis(series, 0, 2).reshape(h, w, t * c)


def _write_dates(
  out: pathlib.Path, regions: Sequence[plan.Region], settings: Settings
) -> None:
  folder = out / "GLOBAL_ALL_MTD"
  folder.mkdir(exist_ok=True)
  patches = [(r, patch) for r in regions for patch in r.patches]
  ids = np.array([plan.patch_id(*pair) for pair in patches], object)
  squares = np.array([_square(*pair) for pair in patches], object)
  for name in settings.modalities:
    if name in _UNDATED:
      continue
    short = _DATED.get(name, name.removesuffix("_TS"))
    texts = []
    for region, _ in patches:
      dates = [
        f"{d:%Y%m%d}" for d in plan.draw_dates(region, name, settings.seed)
      ]
      numbered = {str(n): date for n, date in enumerate(dates, 1)}
      is_series = MODALITIES[name].is_series
      texts.append(json.dumps(numbered) if is_series else dates[0])
    field = "acquisition_dates" if MODALITIES[name].is_series else "date"
    _write_table(
      folder / f"GLOBAL_{short}_MTD_DATES.gpkg",
      squares,
      {"patch_id": ids, field: np.array(texts, object)},
    )
  splits = plan.draw_splits(regions, settings.seed)
  named = np.array([splits[name] for name in ids], object)
  _write_table(
    folder / "GLOBAL_ALL_MTD_SPLIT.gpkg",
    squares,
    {"patch_id": ids, "split_1": named},
  )


def _square(region: plan.Region, patch: tuple[int, int]) -> bytes:
  """Footprint of a patch as a WKB polygon."""
  east, north = region.corner
  left, top = east + patch[1] * PATCH_METRES, north - patch[0] * PATCH_METRES
  right, bottom = left + PATCH_METRES, top - PATCH_METRES
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
      crs=CRS,
      driver="GPKG",
      layer=path.stem,
    )


def _write_csvs(
  out: pathlib.Path,
  regions: Sequence[plan.Region],
  splits: dict[str, str],
  settings: Settings,
) -> None:
  (out / "csv").mkdir(exist_ok=True)
  kinds = file_kinds(settings.modalities)
  for split in SPLITS:
    path = csv_path(out, split)
    if path.exists():
      continue
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["patch_id", *kinds])
    for region, patch in ((r, p) for r in regions for p in r.patches):
      name = plan.patch_id(region, patch)
      if splits[name] == split:
        paths = [f"../{plan.relative_path(region, k, patch)}" for k in kinds]
        writer.writerow([name, *paths])
    atomic.write_text(path, text.getvalue())


def csv_path(out: str | os.PathLike, split: str) -> pathlib.Path:
  """Split file of a simulated data set."""
  return pathlib.Path(out) / "csv" / f"FLAIR-HUB_SIMULATED_{split.upper()}.csv"
