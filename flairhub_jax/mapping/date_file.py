"""Dates of a series: a text or CSV file, or the reference's JSON."""

import json
import pathlib
import re

import numpy as np
from jaxtyping import Int

from flairhub_jax.data import dates
from flairhub_jax.errors import InputError

_DATE = re.compile(r"^(\d{4})-?(\d{2})-?(\d{2})$")


def read_days(path: str | pathlib.Path) -> Int[np.ndarray, "t"]:
  """Reads the dates of a series in the order of its images.

  Args:
    path: a text file with a date `YYYYMMDD` or `YYYY-MM-DD` per line; a CSV
      with a header, whose first column of dates counts; or JSON, a list of
      dates or `{"1": "20210114", …}`.

  Returns:
    Days since 1970-01-01, int32.

  Raises:
    InputError: the file cannot be read, or a line has no date.
  """
  path = pathlib.Path(path)
  try:
    text = path.read_text(encoding="utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(path, "a file of dates", error) from error
  if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
    entries = _json_entries(path, text)
  else:
    entries = _lines(text)
  days = [day(f"{path}, {where}", entry) for where, entry in entries]
  if not days:
    raise InputError(path, "dates as YYYYMMDD", "none")
  return np.array(days, np.int32)


def _json_entries(path, text):
  try:
    is_list = text.lstrip().startswith("[")
    content = json.loads(text) if is_list else dates.json_in_order(text)
  except (ValueError, RecursionError) as error:
    raise InputError(
      path, 'JSON like {"1": "20210114"} or ["20210114"]', error
    ) from error
  return [(f"date {i + 1}", str(date)) for i, date in enumerate(content)]


def _lines(text):
  """The entry of each line: its first field that is a date."""
  entries = []
  for number, line in enumerate(text.splitlines(), 1):
    fields = [part.strip().strip('"') for part in re.split(r"[,;\t ]", line)]
    fields = [part for part in fields if part]
    first = next(filter(_DATE.match, fields), None)
    if first is not None:
      entries.append((f"line {number}", first))
    elif fields and not (number == 1 and not fields[0][:1].isdigit()):
      entries.append((f"line {number}", line.strip()))
  return entries


def day(where: str, entry: str) -> int:
  """Days since 1970-01-01 of a date `YYYYMMDD` or `YYYY-MM-DD`.

  Raises:
    InputError: anything else; `where` names it.
  """
  match = _DATE.match(entry)
  try:
    return dates.days_since_1970("".join(match.groups()))
  except (AttributeError, ValueError) as error:
    raise InputError(where, "a date as YYYYMMDD", repr(entry[:80])) from error
