"""Web pages: one file with its pictures and style inside, without script."""

import base64
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2

# A number, a signed one, one with an interval, or a dash: set to the right.
_NUMERIC = re.compile(r"[+\-–]?\d[\d.,e+\-]*( ± [\d.]+)?( ?\[.*\])?|–|\[.*\]")


class Figure(NamedTuple):
  """A picture in the text.

  Attributes:
    path: PNG.
    caption: what it shows, for those who cannot see it.
  """

  path: pathlib.Path
  caption: str


class Table(NamedTuple):
  """A table of strings.

  Attributes:
    headers: of the columns.
    rows: cells of each row.
  """

  headers: Sequence[str]
  rows: Sequence[Sequence[str]]


class Section(NamedTuple):
  """A heading and what stands below it, in order.

  Attributes:
    title: the heading.
    parts: paragraphs, tables, figures.
    level: 2, or 3 inside the section before.
  """

  title: str
  parts: Sequence[Any]
  level: int = 2

  @property
  def anchor(self) -> str:
    """Name of the heading within the page."""
    return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def alignments(table: Table) -> list[str]:
  """Sides to which the cells of each column are set."""
  columns = zip(*table.rows, strict=True)
  return [
    "right" if all(map(_NUMERIC.fullmatch, cells)) else "left"
    for cells in columns
  ] or ["left"] * len(table.headers)


def render(title: str, sections: Sequence[Section]) -> str:
  """Writes a page; pictures are read from their files."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.tests["table"] = lambda part: isinstance(part, Table)
  environment.tests["figure"] = lambda part: isinstance(part, Figure)
  environment.filters["alignments"] = alignments
  environment.filters["base64"] = _base64
  page = environment.get_template("web_page.html")
  return page.render(title=title, sections=sections)


def _base64(path: pathlib.Path) -> str:
  return base64.b64encode(path.read_bytes()).decode("ascii")
