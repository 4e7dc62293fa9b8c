"""Stopping on a signal, such as a scheduler's before a time limit."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax

from flairhub_jax import processes

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextlib.contextmanager
def listen() -> Iterator[Callable[[bool], str | None]]:
  """Defers termination signals until a run has saved its state.

  An existing handler of a user signal (submitit requeues a SLURM job) is called
  after the block, when everything is saved. An existing handler of SIGTERM is
  not replaced.

  Yields:
    A function that returns the name of the signal received, or None. With
    several processes its argument says whether all of them call it at this
    step; only then do they agree on a result other than None.
  """
  received: list[signal.Signals] = []

  def record(number, frame):
    received.append(signal.Signals(number))

  def stop_signal(is_collective: bool) -> str | None:
    if jax.process_count() > 1:
      if not (is_collective and processes.any_of(bool(received))):
        return None
      return received[0].name if received else "a signal to another process"
    return received[0].name if received else None

  handlers = {
    number: handler
    for number in SIGNALS
    if (handler := signal.getsignal(number)) is signal.SIG_DFL
    or (callable(handler) and number != signal.SIGTERM)
  }
  for number in handlers:
    signal.signal(number, record)
  try:
    yield stop_signal
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)
    for number in dict.fromkeys(received):
      if callable(handlers[number]):
        signal.raise_signal(number)
