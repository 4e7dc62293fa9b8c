"""One document, written as Markdown and as a web page that needs no network."""

from collections.abc import Sequence
from typing import TypeAlias

import pandas as pd

from flairhub_jax import web_page
from flairhub_jax.web_page import Figure, Section, Table

# What stands below a heading: a paragraph, a table of strings or a figure.
Part: TypeAlias = str | pd.DataFrame | Figure


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


def _markdown_table(frame: pd.DataFrame) -> str:
  table = _as_table(frame)
  lines = table.headers, *table.rows
  header, *rows = ([cell.replace("|", "\\|") for cell in x] for x in lines)
  return pd.DataFrame(rows, columns=header).to_markdown(
    index=False, colalign=web_page.alignments(table), disable_numparse=True
  )


def _as_table(frame: pd.DataFrame) -> Table:
  """The table with its index as first column."""
  headers = (frame.index.name, *frame.columns)
  return Table(headers, list(frame.itertuples(name=None)))


def as_html(title: str, sections: Sequence[Section]) -> str:
  """Writes one file with its pictures and its style inside, without script."""
  return web_page.render(
    title,
    [
      section._replace(
        parts=[
          _as_table(part) if isinstance(part, pd.DataFrame) else part
          for part in section.parts
        ]
      )
      for section in sections
    ],
  )
