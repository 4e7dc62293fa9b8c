"""Errors that are not defects of the software: one line and an exit code."""

import itertools
from collections.abc import Sequence

# Maximum number of lines of several faults, and of names in a line.
MOST_LINES = 10
_MOST_NAMES = 5


class InputError(ValueError):
  """Invalid input, with its location, the expected and the actual value.

  The command line prints `str(error)` without a traceback and exits with code
  2. Defects of the software raise other exceptions.
  """

  def __init__(self, where: object, expected: object = None, found: object = 0):
    """Builds the line `<where>: expected <expected>, found <found>`.

    Args:
      where: file, and field, row or band in it; the whole line if it is the
        only argument, as when an exception is unpickled or raised again with
        another text.
      expected: description of valid values.
      found: the actual value.
    """
    line = str(where)
    if expected is not None:
      line = f"{where}: expected {expected}, found {found}"
    super().__init__(printable(line))


class InputErrors(InputError):
  """Several faults of one pass, one line each."""

  def __init__(self, problems: Sequence[str] | str):
    """Stores all `problems`; `str(self)` has at most ten and a count."""
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
  """A run cannot continue, although configuration and software are correct.

  Such as a NaN loss, or a checkpoint that cannot be written: one line and exit
  code 1. Earlier checkpoints are intact.
  """


class StoppedEarly(Exception):
  """A run saved its state and stopped on a signal."""


def listed(names: Sequence[str], separator: str = ", ") -> str:
  """Lists the first few of `names`, and the number of the others."""
  rest = len(names) - _MOST_NAMES
  text = separator.join(names[:_MOST_NAMES])
  return f"{text} and {rest} more" if rest > 0 else text


def in_turn(*kinds: Sequence[str]) -> list[str]:
  """Interleaves faults, so that the first ten include every kind."""
  rows = itertools.zip_longest(*kinds)
  return [line for row in rows for line in row if line is not None]


def printable(line: str) -> str:
  """Escapes line breaks and other control characters."""
  if line.isprintable():
    return line
  return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
