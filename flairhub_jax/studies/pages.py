"""A document as Markdown and as a self-contained HTML page."""

import base64
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jinja2
import pandas as pd

# Right-aligned cells: a number, possibly signed or with an interval, or a dash.
_NUMERIC = re.compile(r"[+\-–]?\d[\d.,e+\-]*( ± [\d.]+)?( ?\[.*\])?|–|\[.*\]")


class Figure(NamedTuple):
  """An image.

  Attributes:
    path: PNG, in the folder of the document.
    caption: the alternative text.
  """

  path: pathlib.Path
  caption: str


# An element of a section: a paragraph, a table of strings or a figure.
Part: TypeAlias = str | pd.DataFrame | Figure


class Section(NamedTuple):
  """A heading and its content.

  Attributes:
    title: the heading.
    parts: paragraphs, tables and figures, in order.
    level: of the heading: 2, or 3 for a subsection.
  """

  title: str
  parts: Sequence[Part]
  level: int = 2

  @property
  def anchor(self) -> str:
    """Target of links to the heading."""
    return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def as_markdown(title: str, sections: Sequence[Section]) -> str:
  """Renders a document as Markdown with links to its figures."""
  blocks = [f"# {title}"]
  for section in sections:
    blocks.append(f"{'#' * section.level} {section.title}")
    for part in section.parts:
      match part:
        case pd.DataFrame():
          blocks.append(_markdown_table(part))
        case Figure():
          blocks.append(f"![{part.caption}]({part.path.name})")
        case _:
          blocks.append(part)
  return "\n\n".join(blocks) + "\n"


def _markdown_table(table: pd.DataFrame) -> str:
  lines = [(table.index.name, *table.columns), *table.itertuples(name=None)]
  header, *rows = ([cell.replace("|", "\\|") for cell in x] for x in lines)
  return pd.DataFrame(rows, columns=header).to_markdown(
    index=False, colalign=alignments(table), disable_numparse=True
  )


def alignments(table: pd.DataFrame) -> list[str]:
  """Returns "left" or "right" for each column, the index first."""
  columns = zip(*table.itertuples(name=None), strict=True)
  return [
    "right" if all(map(_NUMERIC.fullmatch, cells)) else "left"
    for cells in columns
  ]


def as_html(title: str, sections: Sequence[Section]) -> str:
  """Renders a document as one HTML file: inline images and style, no script."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("flairhub_jax", "studies"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.tests["table"] = lambda part: isinstance(part, pd.DataFrame)
  environment.tests["figure"] = lambda part: isinstance(part, Figure)
  environment.filters["alignments"] = alignments
  environment.filters["base64"] = _base64
  page = environment.get_template("report.html")
  return page.render(title=title, sections=sections)


def _base64(path: pathlib.Path) -> str:
  return base64.b64encode(path.read_bytes()).decode("ascii")
