"""Web page of a map: picture, areas, files, inputs and provenance."""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flairhub_jax import __version__, web_page
from flairhub_jax.mapping import class_areas, output
from flairhub_jax.schema import LabelTask
from flairhub_jax.web_page import Figure, Section, Table

_ADJUSTED = (
  "Adjusted areas follow from the confusion matrix (Olofsson et al. 2014) with"
  " an interval of 95 %. They hold if its pixels are a random sample of each"
  " mapped class; pixels of one patch resemble each other, which makes the"
  " interval too narrow."
)
_MAPPED = "Areas are those of the mapped pixels, errors of the map included."


class Sheet(NamedTuple):
  """A task of the map.

  Attributes:
    task: its classes.
    picture: PNG of the map.
    areas: of `class_areas.rows`.
  """

  task: LabelTask
  picture: pathlib.Path
  areas: Sequence[class_areas.Row]


def build(
  out: pathlib.Path, sheets: Sequence[Sheet], files: Sequence[pathlib.Path]
) -> str:
  """The page, one file without links to others.

  Args:
    out: the map.
    sheets: of its tasks.
    files: rasters and polygons; the first is a map of classes.
  """
  tags = output.read_tags(files[0])
  grid = output.read_grid(files[0])
  sections = [_section(sheet) for sheet in sheets]
  ground = [
    ("grid", grid.describe()),
    *([("extent", grid.extent())] if grid.is_placed else []),
  ]
  rows = [(path.name, _size(path)) for path in files]
  sections += [
    Section(
      "Grid and files",
      [Table(("name", "value"), ground), Table(("file", "size"), rows)],
    ),
    Section("Inputs", [Table(("sensor", "rasters", "absent"), _inputs(tags))]),
    Section("Provenance", [Table(("name", "value"), list(_provenance(tags)))]),
  ]
  return web_page.render(out.name, sections)


def _section(sheet: Sheet) -> Section:
  headers, cells = class_areas.as_text(sheet.areas)
  is_adjusted = any("adjusted_ha" in row for row in sheet.areas)
  name = sheet.task.short_name
  return Section(
    name,
    [
      Figure(sheet.picture, f"Map of {name}, with legend and scale"),
      Table(headers, cells),
      _ADJUSTED if is_adjusted else _MAPPED,
    ],
  )


def _size(path: pathlib.Path) -> str:
  size = path.stat().st_size
  return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _inputs(tags: Mapping[str, str]) -> list[tuple[str, str, str]]:
  absent = json.loads(tags.get("FLAIRHUB_ABSENT", "{}"))
  return [
    (name, files, f"{100 * absent.get(name, 0):.0f} % of the windows")
    for name, files in json.loads(tags.get("FLAIRHUB_INPUTS", "{}")).items()
  ]


def _provenance(tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
  yield "software", f"flairhub_jax {__version__}"
  yield "map", tags.get(output.IDENTITY, "")
  yield from _flat("", json.loads(tags.get("FLAIRHUB_ORIGIN", "{}")))
  sizes = json.loads(tags.get("FLAIRHUB_MIN_AREA", "{}"))
  if len(set(sizes.values())) == 1:
    sizes = {"all classes": next(iter(sizes.values()))}
  for name, size in sizes.items():
    if size:
      yield f"minimum mapping unit of {name}", f"{size:g} m²"


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
  """Names and values of nested metadata, a line each."""
  match value:
    case dict():
      for key, each in value.items():
        yield from _flat(f"{name} {key}".strip(), each)
    case list():
      for number, each in enumerate(value, 1):
        yield from _flat(f"{name} {number}".strip(), each)
    case _:
      yield name, str(value)
