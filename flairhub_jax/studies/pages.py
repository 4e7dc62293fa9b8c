"""One document, written as Markdown and as a web page that needs no network."""

import base64
import dataclasses
import html
import pathlib
import re
from collections.abc import Sequence

from flairhub_jax.studies.tables import Table

# A number, a signed one, one with an interval, or a dash: set to the right.
_NUMERIC = re.compile(r"[+\-–]?\d[\d.,e+\-]*( ± [\d.]+)?( ?\[.*\])?|–|\[.*\]")

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f23; background: #fff;
  max-width: 75rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; }
h2 { font-size: 1.25rem; margin-top: 2.4rem; border-bottom: 1px solid #d0d7de;
  padding-bottom: .2rem; }
h3 { font-size: 1.05rem; margin-top: 1.6rem; }
p { max-width: 50rem; }
nav { margin: 1rem 0; }
nav a { margin-right: 1.1rem; white-space: nowrap; line-height: 1.8; }
a { color: #0550ae; }
.scroll, figure { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .87rem; }
th, td { padding: .28rem .6rem; border-bottom: 1px solid #e4e8ec;
  text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #8c959f; vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
tr { background: #fff; }
tbody tr:hover { background: #f6f8fa; }
th:first-child, td:first-child { position: sticky; left: 0;
  background: inherit; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
@media (max-width: 48rem) {
  th:first-child, td:first-child { max-width: 9rem;
    overflow-wrap: break-word; }
  img { max-width: none; }
}
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; }
  nav { display: none; }
  .scroll, figure { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .12rem .35rem; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""


@dataclasses.dataclass(frozen=True)
class Figure:
  """A picture in the text.

  Attributes:
    path: PNG, in the folder of the document.
    caption: what it shows, for those who cannot see it.
  """

  path: pathlib.Path
  caption: str


# What stands below a heading: a paragraph, a table or a figure.
Part = str | Table | Figure


@dataclasses.dataclass(frozen=True)
class Section:
  """A heading and what stands below it, in order.

  Attributes:
    title: the heading.
    parts: paragraphs, tables, figures.
    level: 2, or 3 inside the section before.
  """

  title: str
  parts: Sequence[Part]
  level: int = 2


def as_markdown(title: str, sections: Sequence[Section]) -> str:
  """Writes a document for a repository; pictures are linked."""
  blocks = [f"# {title}"]
  for section in sections:
    blocks.append(f"{'#' * section.level} {section.title}")
    for part in section.parts:
      match part:
        case Table():
          blocks.append(_markdown_table(part))
        case Figure():
          blocks.append(f"![{part.caption}]({part.path.name})")
        case _:
          blocks.append(part)
  return "\n\n".join(blocks) + "\n"


def _markdown_table(table: Table) -> str:
  rule = [
    "---:" if _is_numeric(table, column) else "---"
    for column in range(len(table.header))
  ]
  return "\n".join(
    "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    for row in (table.header, rule, *table.rows)
  )


def _is_numeric(table: Table, column: int) -> bool:
  cells = [row[column] for row in table.rows]
  return bool(cells) and all(_NUMERIC.fullmatch(cell) for cell in cells)


def as_html(title: str, sections: Sequence[Section]) -> str:
  """Writes one file with its pictures and its style inside, without script."""
  links = " ".join(
    f'<a href="#{_anchor(section)}">{html.escape(section.title)}</a>'
    for section in sections
    if section.level == 2
  )
  body = [f"<h1>{html.escape(title)}</h1>", f"<nav>{links}</nav>"]
  for section in sections:
    heading = html.escape(section.title)
    if section.level == 2:
      body.append(f'<h2 id="{_anchor(section)}">{heading}</h2>')
    else:
      body.append(f"<h{section.level}>{heading}</h{section.level}>")
    for part in section.parts:
      match part:
        case Table():
          body.append(_html_table(part))
        case Figure():
          body.append(_html_figure(part))
        case _:
          body.append(f"<p>{html.escape(part)}</p>")
  return "\n".join(
    [
      "<!doctype html>",
      '<html lang="en">',
      "<head>",
      '<meta charset="utf-8">',
      '<meta name="viewport" content="width=device-width, initial-scale=1">',
      f"<title>{html.escape(title)}</title>",
      f"<style>{_STYLE}</style>",
      "</head>",
      "<body>",
      *body,
      "</body>",
      "</html>",
      "",
    ]
  )


def _anchor(section: Section) -> str:
  return re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")


def _html_table(table: Table) -> str:
  marks = [
    ' class="number"' if _is_numeric(table, column) else ""
    for column in range(len(table.header))
  ]
  head = _html_cells("th", table.header, marks)
  rows = "\n".join(
    f"<tr>{_html_cells('td', row, marks)}</tr>" for row in table.rows
  )
  return (
    f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
    f"<tbody>\n{rows}\n</tbody></table></div>"
  )


def _html_cells(tag: str, cells: Sequence[str], marks: Sequence[str]) -> str:
  return "".join(
    f"<{tag}{mark}>{html.escape(cell).replace(' %', '&nbsp;%')}</{tag}>"
    for cell, mark in zip(cells, marks, strict=True)
  )


def _html_figure(figure: Figure) -> str:
  data = base64.b64encode(figure.path.read_bytes()).decode("ascii")
  caption = html.escape(figure.caption, quote=True)
  return (
    f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"></figure>'
  )
