"""Being asked to stop: by a scheduler before a limit or for another job."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax

from flairhub_jax import processes

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextlib.contextmanager
def listen() -> Iterator[Callable[[bool], str | None]]:
  """Notes signals that ask a run to stop, instead of ending at once.

  What handles a user signal otherwise (submitit lets a job of SLURM end and
  queues it again) gets it when the block has ended, and all is saved. SIGTERM
  is left to what handles it already.

  Yields:
    A function that returns the name of the signal, None before any. Where
    several processes train, they only learn of it together: when they all
    ask, with True.
  """
  noted: list[signal.Signals] = []

  def note(number, frame):
    noted.append(signal.Signals(number))

  def asked(together: bool) -> str | None:
    if jax.process_count() > 1:
      if not (together and processes.any_of(bool(noted))):
        return None
      return noted[0].name if noted else "a signal to another process"
    return noted[0].name if noted else None

  before = {
    number: handler
    for number in SIGNALS
    if (handler := signal.getsignal(number)) is signal.SIG_DFL
    or (callable(handler) and number != signal.SIGTERM)
  }
  for number in before:
    signal.signal(number, note)
  try:
    yield asked
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    for number in dict.fromkeys(noted):
      if callable(before[number]):
        signal.raise_signal(number)
