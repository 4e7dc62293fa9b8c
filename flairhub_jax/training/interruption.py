"""Being asked to stop: by a scheduler before a limit or for another job."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax

from flairhub_jax import processes

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextlib.contextmanager
def listen() -> Iterator[Callable[[bool], str | None]]:
  """Notes signals that ask a run to stop, instead of ending at once.

  Signals that something else handles already are left to it.

  Yields:
    A function that returns the name of the signal, None before any. Where
    several processes train, they only learn of it together: when they all
    ask, with True.
  """
  noted: list[str] = []

  def note(number, frame):
    noted.append(signal.Signals(number).name)

  def asked(together: bool) -> str | None:
    if jax.process_count() > 1:
      if not (together and processes.any_of(bool(noted))):
        return None
      return noted[0] if noted else "a signal to another process"
    return noted[0] if noted else None

  ours = [s for s in SIGNALS if signal.getsignal(s) is signal.SIG_DFL]
  for number in ours:
    signal.signal(number, note)
  try:
    yield asked
  finally:
    for number in ours:
      signal.signal(number, signal.SIG_DFL)
