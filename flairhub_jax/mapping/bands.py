"""Bands of a map: units of computation, of resumption and of jobs.

A band is some rows of windows, and the rows of the map that no later window
covers once they are added. Batches begin anew with each band, so that its
windows have the same places in the same batches wherever it is computed.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from flairhub_jax.errors import InputError
from flairhub_jax.mapping.layout import Layout

# Batches of a band, at least: the last one may have empty places.
_BATCHES = 32


@dataclasses.dataclass(frozen=True)
class Band:
  """One band.

  Attributes:
    number: from 0.
    windows: its rows of windows.
    rows: its rows of the map; windows of earlier bands may reach into them.
  """

  number: int
  windows: range
  rows: range


def divide(layout: Layout, batch_size: int) -> tuple[Band, ...]:
  """Divides a map; the result depends on its windows and the batch size only.

  Args:
    layout: of the map.
    batch_size: windows of a batch, before it is rounded up to the devices.
  """
  axis, columns = layout.rows, len(layout.columns)
  count = -(-_BATCHES * batch_size // columns)
  bands = []
  for number, start in enumerate(range(0, len(axis), count)):
    stop = min(start + count, len(axis))
    rows = range(axis.first_pixel(start), axis.first_pixel(stop))
    bands.append(Band(number, range(start, stop), rows))
  return tuple(bands)


def neighbours(numbers: Iterable[int]) -> list[range]:
  """Groups numbers, in order, to ranges without gaps."""
  groups: list[range] = []
  for number in sorted(numbers):
    if groups and groups[-1].stop == number:
      groups[-1] = range(groups[-1].start, number + 1)
    else:
      groups.append(range(number, number + 1))
  return groups


@dataclasses.dataclass(frozen=True)
class Job:
  """One of several jobs that compute a map together.

  Attributes:
    number: from 1.
    count: of all jobs.
  """

  number: int
  count: int

  def __str__(self) -> str:
    return f"{self.number}/{self.count}"

  def split(self, number: int, count: int) -> "Job":
    """One of `count` equal parts of the job; `number` is from 0."""
    first = (self.number - 1) * count
    return Job(first + number + 1, self.count * count)

  def of(self, bands: Sequence[Band]) -> Sequence[Band]:
    """Its bands, which are consecutive."""
    first, last = (
      len(bands) * number // self.count
      for number in (self.number - 1, self.number)
    )
    return bands[first:last]


def parse_job(text: str) -> Job:
  """Reads `I/N` of the command line.

  Raises:
    InputError: another form, or no such job.
  """
  match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
  job = Job(*map(int, match.groups())) if match else Job(0, 0)
  if not 1 <= job.number <= job.count:
    raise InputError("--job", "I/N, from 1/N to N/N", repr(text))
  return job
