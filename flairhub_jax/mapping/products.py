"""What is made of a finished map: styles, picture, areas, polygons, page.

All is read from the files of the layers: a killed command makes it when it is
called again, without the network.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from rasterio import features

from flairhub_jax import atomic, terminal
from flairhub_jax.errors import InputError
from flairhub_jax.figures import map_sheet
from flairhub_jax.mapping import (
  area,
  class_areas,
  ground_area,
  map_page,
  output,
  polygons,
  style,
)
from flairhub_jax.mapping import grid as grids
from flairhub_jax.mapping.region import Region


@dataclasses.dataclass(frozen=True)
class Products:
  """What the user asks for beside styles, picture, areas and page.

  Attributes:
    polygons: GeoPackage to write; None: none.
    zones: polygons for which areas are written too.
    confusion: task -> confusion matrix, rows true, of error-adjusted areas.
  """

  polygons: pathlib.Path | None = None
  zones: Sequence[area.Feature] = ()
  confusion: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def check(region: Region, products: Products, identity: str) -> None:
  """Checks what can be checked before the map is computed.

  Raises:
    InputError: polygons cannot be written, areas cannot be adjusted, or no
      zone lies in the map.
  """
  if products.polygons is not None:
    polygons.check(products.polygons, identity)
  grid = region.layout.grid
  bounds = [features.bounds(zone.shape) for zone in products.zones]
  if bounds and not any(grids.overlaps(grid.bounds, each) for each in bounds):
    raise InputError("--areas", f"zones in the map ({grid.extent()})", "none")
  if products.confusion and grid.crs is None:
    raise InputError("--scores", "rasters with a CRS", "none")


def write(region: Region, products: Products, identity: str) -> None:
  """Writes all products of a finished map, and prints its areas.

  Raises:
    RunError: a file cannot be written.
  """
  for line in ground_area.warnings(region.layout.grid):
    terminal.print_line(line)
  sheets = []
  for task in region.tasks.values():
    file = region.file(f"{task.id}.classes")
    style.write_qml(file.with_suffix(".qml"), task)
    style.write_sld(file.with_suffix(".sld"), task)
    _draw(file, task, region)
    sheets.append(_measure(file, task, products))
  if products.polygons is not None and not products.polygons.exists():
    polygons.write(products.polygons, _files(region), identity)
  files = [region.file(name) for name in _layers(region)]
  if products.polygons is not None:
    files.append(products.polygons)
  page = map_page.build(region.out, sheets, files)
  atomic.write_text(region.out.with_suffix(".html"), page)


def _layers(region) -> list[str]:
  return list(region.layers.pixel_bytes(tuple(region.tasks)))


def _files(region) -> dict[str, polygons.MapFiles]:
  has_confidence = "confidence" in region.layers.measures
  return {
    name: polygons.MapFiles(
      task,
      region.file(f"{name}.classes"),
      region.file(f"{name}.confidence") if has_confidence else None,
    )
    for name, task in region.tasks.items()
  }


def _draw(file, task, region) -> None:
  """Draws the picture of a map, with north up if its grid is straight."""
  classes = output.read_small(file)
  rows, columns = region.layout.is_flipped
  classes = classes[:: -1 if rows else 1, :: -1 if columns else 1]
  grid = region.layout.grid
  small = grid.with_size(*classes.shape)
  map_sheet.draw_map(
    file.with_suffix(".png"),
    classes,
    task,
    title=f"{task.short_name}: {file.name}",
    pixel=small.pixel_metres,
    unit="m" if grid.crs is not None else "pixels",
    north=grid.north,
  )


def _measure(file, task, products) -> map_page.Sheet:
  """Writes the tables of areas of a map."""
  areas = class_areas.measure(file, task.num_classes)
  adjusted = None
  if task.id in products.confusion:
    adjusted = class_areas.adjust(areas.metres, products.confusion[task.id])
    if np.isnan(adjusted.metres).any():
      terminal.print_line(
        f"warning: {task.id}: areas cannot be adjusted: a class of the map has"
        " fewer than 2 pixels in the evaluation"
      )
      adjusted = None
  table = class_areas.rows(task, areas, adjusted)
  stem = file.with_suffix("")
  class_areas.write_csv(stem.with_name(stem.name + "_areas.csv"), table)
  print(f"\n{task.short_name}\n{class_areas.format_rows(table)}\n")
  if products.zones:
    zones = class_areas.zone_rows(file, task, products.zones)
    class_areas.write_csv(stem.with_name(stem.name + "_zones.csv"), zones)
  return map_page.Sheet(task, file.with_suffix(".png"), table)
