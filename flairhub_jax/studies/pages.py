"""One document, written as Markdown and as a web page that needs no network."""

import base64
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jinja2
import pandas as pd

# A number, a signed one, one with an interval, or a dash: set to the right.
_NUMERIC = re.compile(r"[+\-–]?\d[\d.,e+\-]*( ± [\d.]+)?( ?\[.*\])?|–|\[.*\]")


class Figure(NamedTuple):
  """A picture in the text.

  Attributes:
    path: PNG, in the folder of the document.
    caption: what it shows, for those who cannot see it.
  """

  path: pathlib.Path
  caption: str


# What stands below a heading: a paragraph, a table of strings or a figure.
Part: TypeAlias = str | pd.DataFrame | Figure


class Section(NamedTuple):
  """A heading and what stands below it, in order.

  Attributes:
    title: the heading.
    parts: paragraphs, tables, figures.
    level: 2, or 3 inside the section before.
  """

  title: str
  parts: Sequence[Part]
  level: int = 2

  @property
  def anchor(self) -> str:
    """Name of the heading within the page."""
    return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def as_markdown(title: str, sections: Sequence[Section]) -> str:
  """Writes a document for a repository; pictures are linked."""
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
  """Sides to which the cells of each column are set, the index first."""
  columns = zip(*table.itertuples(name=None), strict=True)
  return [
    "right" if all(map(_NUMERIC.fullmatch, cells)) else "left"
    for cells in columns
  ]


def as_html(title: str, sections: Sequence[Section]) -> str:
  """Writes one file with its pictures and its style inside, without script."""
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
