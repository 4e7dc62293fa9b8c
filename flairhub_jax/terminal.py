"""What a command shows while it works: progress bars and log lines, on stderr.

In a terminal a bar moves. Elsewhere (a job's log file, a pipe) progress is a
plain line every 30 seconds. With `-q` neither bars nor log lines are shown;
results go to stdout and errors to stderr all the same.
"""

import logging
import sys
from collections.abc import Iterable
from typing import Any

import tqdm

# Seconds between two lines of progress where there is no terminal.
_INTERVAL = 30.0

_is_quiet = False


def set_verbosity(*, quiet: bool = False, verbose: bool = False) -> None:
  """Chooses how much this process shows; for the command line.

  Args:
    quiet: neither progress bars nor log lines.
    verbose: also the log messages of libraries, from INFO on.
  """
  global _is_quiet
  _is_quiet = quiet
  if not verbose:
    silence_libraries()
    return
  # Some libraries set up the root logger when they are imported: `force`.
  logging.basicConfig(
    level=logging.INFO,
    format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    stream=sys.stderr,
    force=True,
  )


def silence_libraries() -> None:
  """Stops libraries from logging what errors say in one line.

  For processes that are ours alone. Each task of a save that fails logs to
  `absl` and `asyncio`, and GDAL each file it cannot read.
  """
  for name in ("absl", "asyncio", "rasterio"):
    logging.getLogger(name).setLevel(logging.CRITICAL)


def progress_bar(
  iterable: Iterable | None = None,
  *,
  total: int | None = None,
  desc: str,
  unit: str,
  initial: int = 0,
  leave: bool = True,
  disable: bool = False,
) -> tqdm.tqdm:
  """Returns a bar with rate and time left; to be closed by its user.

  Args:
    iterable: what is gone through; None: the user updates the bar.
    total: units of the whole work; None: the length of `iterable`.
    desc: what is done.
    unit: name of one unit.
    initial: units that were done before.
    leave: whether the full bar stays in the terminal.
    disable: shows nothing, as in all processes but the first.
  """
  options: dict[str, Any] = {}
  if not sys.stderr.isatty():
    options = dict(
      file=_Lines(),
      ascii=True,
      ncols=100,
      delay=_INTERVAL,
      mininterval=_INTERVAL,
      maxinterval=_INTERVAL,
    )
    leave = True
  return tqdm.tqdm(
    iterable,
    total=total,
    initial=initial,
    desc=desc,
    unit=unit,
    leave=leave,
    disable=disable or _is_quiet,
    **options,
  )


def print_line(line: str) -> None:
  """Shows a line of a log above the bars."""
  if not _is_quiet:
    tqdm.tqdm.write(line, file=sys.stderr)


class _Lines:
  """A file on which each state of a bar becomes a line of its own."""

  def write(self, text: str) -> None:
    text = text.strip("\r\n ")
    if text:
      sys.stderr.write(text + "\n")

  def flush(self) -> None:
    sys.stderr.flush()
