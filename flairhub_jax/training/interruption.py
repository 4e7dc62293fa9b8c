"""Stopping on a signal: from a scheduler, before a time limit or preemption."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax

from flairhub_jax import processes

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextlib.contextmanager
def listen() -> Iterator[Callable[[bool], str | None]]:
  """Defers signals that ask a run to stop until it has saved.

  An existing handler of a user signal (submitit requeues a SLURM job) is called
  after the block, when everything is saved. An existing handler of SIGTERM is
  left in place.

  Yields:
    A function that returns the name of the signal, or None. Several processes
    agree on it: only when all of them call the function with True.
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
