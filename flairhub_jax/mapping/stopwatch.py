"""Seconds that a map spends on each of its stages."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
  """Sums of wall time by stage.

  Stages of one thread add up to its time; `reading` is that of another.

  Attributes:
    seconds: stage -> seconds.
  """

  def __init__(self) -> None:
    """All stages are at 0."""
    self.seconds = dict.fromkeys(
      ("reading", "waiting", "computing", "blending", "writing"), 0.0
    )

  @contextlib.contextmanager
  def measure(self, stage: str) -> Iterator[None]:
    """Adds the time of the block to a stage."""
    start = time.perf_counter()
    try:
      yield
    finally:
      self.seconds[stage] += time.perf_counter() - start
