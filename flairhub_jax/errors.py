"""Ends that are no fault of ours: one clear line and an exit code."""

import itertools
from collections.abc import Sequence

# Faults that are printed, of a file that has many, and names within a line.
MOST_LINES = 10
_MOST_NAMES = 5


class InputError(ValueError):
  """Says where the fault lies, what was expected and what was found.

  The command line prints `str(error)` alone, without a traceback, and exits
  with code 2. Faults of our own raise other exceptions.
  """

  def __init__(self, where: object, expected: object = None, found: object = 0):
    """Builds the line `<where>: expected <expected>, found <found>`.

    Args:
      where: file, and where it applies the field, row or band in it. Alone it
        is the whole line: pickles, and libraries that raise an exception
        again with another text, make one so.
      expected: what would have been right.
      found: what stood there instead.
    """
    line = str(where)
    if expected is not None:
      line = f"{where}: expected {expected}, found {found}"
    super().__init__(printable(line))


class InputErrors(InputError):
  """Several faults found in one pass, a line each."""

  def __init__(self, problems: Sequence[str] | str):
    """Keeps all `problems`; `str(self)` has ten at most, and a count."""
    if isinstance(problems, str):
      problems = problems.splitlines()
    self.problems = tuple(printable(line) for line in problems)
    lines = list(self.problems[:MOST_LINES])
    rest = len(self.problems) - len(lines)
    if rest:
      lines.append(f"and {rest} more")
    ValueError.__init__(self, "\n".join(lines))

  def __reduce__(self):
    return type(self), (self.problems,)


class RunError(Exception):
  """A run cannot go on, through no fault of its configuration or of ours.

  The loss is NaN, or a checkpoint cannot be written: one clear
  line and exit code 1. What was saved before is whole.
  """


class StoppedEarly(Exception):
  """A run saved its state and stopped, because a signal asked for it."""


def listed(names: Sequence[str], separator: str = ", ") -> str:
  """The first few of `names`, and how many more there are."""
  rest = len(names) - _MOST_NAMES
  text = separator.join(names[:_MOST_NAMES])
  return f"{text} and {rest} more" if rest > 0 else text


def in_turn(*kinds: Sequence[str]) -> list[str]:
  """Faults of several kinds in turn, so that the first ten show each kind."""
  rows = itertools.zip_longest(*kinds)
  return [line for row in rows for line in row if line is not None]


def printable(line: str) -> str:
  """`line` with line ends and other control characters as escapes."""
  if line.isprintable():
    return line
  return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
