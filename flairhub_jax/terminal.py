"""Progress bars and log lines of a command, on stderr.

Without a terminal (in a job's log file, in a pipe) progress is a plain line
every 30 seconds. `-q` hides bars and log lines; results still go to stdout and
errors to stderr.
"""

import logging
import sys
from collections.abc import Iterable
from typing import Any

import tqdm

# Seconds between two lines of progress without a terminal.
_INTERVAL = 30.0

_is_quiet = False


def set_verbosity(*, quiet: bool = False, verbose: bool = False) -> None:
  """Sets the verbosity of this process; for the command line.

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
  """Silences library logs that repeat the one line of an error.

  Only for our own processes. A failed save logs to `absl` and `asyncio` once
  per task, and GDAL logs each file that it cannot read.
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
  """Returns a bar with rate and time left; the caller closes it.

  Args:
    iterable: to iterate over; None: the caller updates the bar.
    total: number of units; None: the length of `iterable`.
    desc: description of the work.
    unit: name of one unit.
    initial: units done before.
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
  """Prints a log line above the bars."""
  if not _is_quiet:
    tqdm.tqdm.write(line, file=sys.stderr)


class _Lines:
  """A file that prints each state of a bar as a line."""

  def write(self, text: str) -> None:
    text = text.strip("\r\n ")
    if text:
      sys.stderr.write(text + "\n")

  def flush(self) -> None:
    sys.stderr.flush()
