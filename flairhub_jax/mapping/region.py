"""One map of a region: checked, computed, written."""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from flairhub_jax import contract as contracts
from flairhub_jax import processes, terminal
from flairhub_jax.errors import InputError, RunError, listed
from flairhub_jax.mapping import (
  bands,
  block_cache,
  engine,
  examples,
  ground_area,
  output,
  sieve,
  source_identity,
)
from flairhub_jax.mapping.area import Area
from flairhub_jax.mapping.bands import Job
from flairhub_jax.mapping.ensemble import MapNetwork, MapReader
from flairhub_jax.mapping.inputs import SensorInput
from flairhub_jax.mapping.layers import MEASURES, Layers
from flairhub_jax.mapping.layout import Layout
from flairhub_jax.mapping.store import Counts, Store, total
from flairhub_jax.schema import LabelTask

_MEGABYTE = 2**20


@dataclasses.dataclass(frozen=True)
class Region:
  """Inputs, layout and files of a map.

  Attributes:
    inputs: rasters of the sensors.
    layout: grid and windows.
    tasks: id -> classes.
    layers: to write of each task.
    out: the GeoTIFF of the classes.
    area: of interest; None: all.
    origin: identity of run and weights, for the metadata.
    contract: what the run expects of its inputs, for the metadata.
    min_areas: task -> smallest area of each class, in square metres.
  """

  inputs: Mapping[str, SensorInput]
  layout: Layout
  tasks: Mapping[str, LabelTask]
  layers: Layers
  out: pathlib.Path
  area: Area | None
  origin: Mapping[str, Any]
  contract: contracts.Contract
  min_areas: Mapping[str, tuple[float, ...]] = dataclasses.field(
    default_factory=dict
  )

  def file(self, layer: str) -> pathlib.Path:
    """The GeoTIFF of a layer `<task>.<kind>`."""
    task, kind = layer.rsplit(".", 1)
    stem = self.out.stem
    if len(self.tasks) > 1:
      stem += f"_{task}"
    if kind != "classes":
      stem += f"_{kind}"
    return self.out.with_name(stem + self.out.suffix)

  def identity(self) -> str:
    """Digest of all that determines the map: weights, rasters, windows."""
    layout = self.layout
    content = {
      "origin": _without_names(self.origin),
      "inputs": {
        name: [
          source_identity.describe(each.mosaic),
          source_identity.describe(each.mask),
          str(each.days),
        ]
        for name, each in self.inputs.items()
      },
      "grid": [str(layout.grid), str(layout.is_flipped)],
      "windows": [layout.rows.starts, layout.columns.starts, layout.shape],
      "pixels": dict(layout.pixels),
      "margin": layout.margin,
      "weights": _digest(layout.rows.weights[0], layout.columns.weights[0]),
      "area": None if self.area is None else str(self.area.shape),
      "layers": [
        {task: list(v) for task, v in self.layers.probabilities.items()},
        self.layers.measures,
        self.layers.dtype,
      ],
      "min_areas": {task: list(v) for task, v in self.min_areas.items()},
    }
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_names(origin: Any) -> Any:
  """What identifies the origin of a map; names and steps are for readers."""
  if isinstance(origin, list):
    return [_without_names(each) for each in origin]
  if not isinstance(origin, Mapping):
    return origin
  names = ("run", "step", "checkpoint")
  return {
    key: _without_names(v) for key, v in origin.items() if key not in names
  }


def _digest(*arrays) -> str:
  sha256 = hashlib.sha256()
  for array in arrays:
    sha256.update(array.tobytes())
  return sha256.hexdigest()


def check_out(out: pathlib.Path) -> None:
  """Checks that a map can be written, before anything is computed.

  Raises:
    InputError: its name or folder does not allow it.
  """
  if out.suffix.lower() not in (".tif", ".tiff"):
    raise InputError("--out", "a name that ends in .tif", repr(str(out)))
  if out.is_dir():
    raise InputError("--out", "a file", f"the folder {out}")
  folder = out.absolute().parent
  if not folder.is_dir():
    raise InputError("--out", f"an existing folder {folder}", "none")
  try:
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise InputError(
      "--out", "a folder that can be written", f"{folder}: {error.strerror}"
    ) from error


def is_finished(region: Region, identity: str) -> bool:
  """Whether all files of this very map exist.

  Raises:
    InputError: one of them is another map, or no map.
  """
  layers = region.layers.pixel_bytes(tuple(region.tasks))
  exists = []
  for layer in layers:
    file = region.file(layer)
    if not file.exists():
      exists.append(False)
      continue
    other = output.read_identity(file)
    if other != identity:
      raise InputError(
        file,
        f"no file, or this map ({identity[:12]})",
        f"another map ({other[:12]})" if other else "another file",
      )
    exists.append(True)
  return all(exists)


def write(
  region: Region,
  network: Callable[[], MapNetwork],
  reader: MapReader,
  identity: str,
  job: Job | None = None,
) -> None:
  """Computes a map, or its unfinished bands, and writes all files.

  Args:
    region: the map.
    network: compiles the network; called if any band is unfinished.
    reader: of the windows.
    identity: of the map.
    job: whose bands are computed, and no files written; None: all bands.

  Raises:
    InputError: its unfinished rows belong to another map, or another process
      computes them.
    RunError: the disk is full, or a raster is damaged.
  """
  layout, tasks = region.layout, region.tasks
  shape = layout.grid.height, layout.grid.width
  layers = region.layers.pixel_bytes(tuple(tasks))
  store = Store(region.out, identity, layers, shape)
  num_sieved = sum(any(each) for each in region.min_areas.values())
  _check_disk(store, num_sieved * shape[0] * shape[1])
  with store.open(job):
    counts = _compute(region, network, reader, store, job)
    if job is not None:
      return
    if counts.num_windows == 0:
      terminal.print_line("warning: no window has data: the map is empty")
    tags = _tags(region, identity, counts)
    for layer in layers:
      _write_layer(region, store, layer, tags)
  store.remove()


def _compute(region, network, reader, store, job) -> Counts:
  """Computes the unfinished bands; returns the counts of all finished ones."""
  layout = region.layout
  division = bands.divide(layout, region.origin["batch_size"])
  own = division if job is None else job.of(division)
  finished = store.finished()
  missing = [band.number for band in own if band.number not in finished]
  if not missing:
    return total(finished.values())
  if len(missing) < len(own):
    terminal.print_line(
      f"continues at row {division[missing[0]].rows.start} of"
      f" {layout.rows.size}: {len(missing)} of {len(own)} bands to compute"
    )
  program, columns = network(), len(layout.columns)
  if processes.is_first():
    for line in describe(region, program, reader):
      terminal.print_line(line)
  bar = terminal.progress_bar(
    total=columns * sum(len(band.windows) for band in own),
    initial=columns
    * sum(len(band.windows) for band in own if band.number in finished),
    desc="map",
    unit="window",
    disable=not processes.is_first(),
  )
  with bar:
    for numbers in bands.neighbours(missing):
      engine.run(
        program,
        reader,
        layout,
        region.layers,
        {task: row.num_classes for task, row in region.tasks.items()},
        write=lambda n, rows: store.write(n, rows, layout.is_flipped),
        finish=store.finish,
        area=None if region.area is None else region.area.on(layout.grid),
        division=division,
        numbers=numbers,
        on_windows=bar.update,
      )
  return total(store.finished().values())


def _check_disk(store: Store, num_extra_bytes: int) -> None:
  free = shutil.disk_usage(store.folder.parent).free
  existing = 0
  if store.folder.exists():
    existing = sum(file.stat().st_size for file in store.folder.glob("*.raw"))
  needed = 2 * store.num_bytes + num_extra_bytes - existing
  if needed > free:
    raise RunError(
      f"{store.folder.parent}: expected {needed / _MEGABYTE:.0f} MB of free"
      f" disk for a map of this size, found {free / _MEGABYTE:.0f} MB"
    )


def _tags(region, identity, counts) -> dict[str, str]:
  tags = {
    output.IDENTITY: identity,
    "FLAIRHUB_ORIGIN": json.dumps(dict(region.origin), sort_keys=True),
    contracts.TAG: json.dumps(region.contract.to_json()),
    "FLAIRHUB_INPUTS": json.dumps(
      {
        name: listed([tile.path.name for tile in each.mosaic.tiles])
        for name, each in region.inputs.items()
      }
    ),
  }
  if counts.num_absent:
    tags["FLAIRHUB_ABSENT"] = json.dumps(
      {n: k / counts.num_windows for n, k in counts.num_absent.items()}
    )
  for name, number in counts.num_absent.items():
    share = 100 * number / counts.num_windows
    terminal.print_line(f"{name}: absent in {share:.0f} % of the windows")
  return tags


def _write_layer(region, store, layer, tags) -> None:
  task_id, kind = layer.rsplit(".", 1)
  task, grid = region.tasks[task_id], region.layout.output_grid()
  raw, file = store.path(layer), region.file(layer)
  tags = {**tags, "FLAIRHUB_TASK": task_id}
  if kind == "classes":
    min_areas = region.min_areas.get(task_id, ())
    if any(min_areas):
      raw = _sieve(raw, grid, min_areas)
      tags["FLAIRHUB_MIN_AREA"] = json.dumps(
        dict(zip(task.class_names, min_areas, strict=True))
      )
    output.write_classes(raw, file, grid, task, tags)
    return
  if kind in MEASURES:
    output.write_shares(raw, file, grid, [MEASURES[kind].title], tags)
    return
  indices = region.layers.probabilities[task_id]
  names = [f"probability of {task.class_names[i]}" for i in indices]
  output.write_shares(raw, file, grid, names, tags, region.layers.dtype)


def _sieve(raw, grid, min_areas) -> pathlib.Path:
  """A file of classes without small areas."""
  target = raw.with_suffix(".sieved.raw")
  shape = grid.height, grid.width
  sieve.Sieve(shape, ground_area.of_rows(grid), min_areas).run(raw, target)
  return target


def describe(
  region: Region, network: MapNetwork, reader: MapReader
) -> list[str]:
  """Lines about the map to compute, its memory and its disk space."""
  layout = region.layout
  rows, columns = len(layout.rows), len(layout.columns)
  num_classes = sum(task.num_classes for task in region.tasks.values())
  batch = examples.stack([reader.empty_example()])
  batch_bytes = network.batch_size * sum(
    leaf.nbytes for leaf in jax.tree.leaves(batch)
  )
  memory = engine.memory(layout, num_classes, batch_bytes, network.memory)
  memory += block_cache.size(region.inputs, layout)
  size = sum(region.layers.pixel_bytes(tuple(region.tasks)).values())
  disk = size * layout.grid.height * layout.grid.width
  return [
    *layout.notes,
    f"map: {layout.output_grid().describe()}",
    f"windows: {rows} x {columns} of {layout.shape[0]} x {layout.shape[1]}"
    f" pixels, in batches of {network.batch_size}",
    f"memory: {math.ceil(memory / _MEGABYTE)} MB at most, beside the"
    f" {_resident() // _MEGABYTE} MB of the process; disk: up to"
    f" {math.ceil(2 * disk / _MEGABYTE)} MB",
  ]


def _resident() -> int:
  """Bytes of memory of this process now; 0 if unavailable."""
  try:
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
  except OSError:
    return 0


def class_indices(
  tasks: Mapping[str, LabelTask], names: Sequence[str]
) -> dict[str, tuple[int, ...]]:
  """Indices by task of classes, by their names or `all`.

  Raises:
    InputError: a name that no task has.
  """
  indices: dict[str, list[int]] = {task: [] for task in tasks}
  for name in names:
    places = [
      (task, index)
      for task, row in tasks.items()
      for index, class_name in enumerate(row.class_names)
      if name in (class_name, "all")
    ]
    if not places:
      names = [n for row in tasks.values() for n in row.class_names]
      raise InputError("--probabilities", f"any of {', '.join(names)}", name)
    for task, index in places:
      if index not in indices[task]:
        indices[task].append(index)
  return {task: tuple(values) for task, values in indices.items()}
