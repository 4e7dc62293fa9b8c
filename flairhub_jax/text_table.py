"""Tables in the terminal."""

from collections.abc import Sequence

import tabulate

# A row that stands for a line between others.
RULE = tabulate.SEPARATING_LINE


def format_table(
  headers: Sequence[str], rows: Sequence[Sequence[str] | str], *, text: int = 1
) -> str:
  """Renders cells as they are, below their headers.

  Args:
    headers: of the columns.
    rows: cells of each row, or `RULE`.
    text: how many columns, the first ones, are set to the left.
  """
  sides = ["left"] * text + ["right"] * (len(headers) - text)
  return tabulate.tabulate(rows, headers, colalign=sides, disable_numparse=True)
