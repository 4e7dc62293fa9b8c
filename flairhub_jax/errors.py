"""Ends that are no fault of ours: one clear line and an exit code."""

from collections.abc import Sequence


class InputError(ValueError):
  """Says where the fault lies, what was expected and what was found.

  The command line prints `str(error)` alone, without a traceback, and exits
  with code 2. Faults of our own raise other exceptions.
  """

  def __init__(self, where: object, expected: str, found: object):
    """Builds the line `<where>: expected <expected>, found <found>`.

    Args:
      where: file, and where it applies the field, row or band in it.
      expected: what would have been right.
      found: what stood there instead.
    """
    super().__init__(f"{where}: expected {expected}, found {found}")


class InputErrors(InputError):
  """Several faults found in one pass, a line each."""

  def __init__(self, problems: Sequence[str]):
    """Keeps `problems`; `str(self)` prints them all, a line each."""
    ValueError.__init__(self, "\n".join(problems))
    self.problems = tuple(problems)


class RunError(Exception):
  """A run cannot go on, through no fault of its configuration or of ours.

  The loss is no number any more, or a checkpoint cannot be written: one clear
  line and exit code 1. What was saved before is whole.
  """


class StoppedEarly(Exception):
  """A run saved its state and stopped, because a signal asked for it."""
