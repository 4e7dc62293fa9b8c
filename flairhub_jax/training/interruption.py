"""Being asked to stop: by a scheduler before a limit or for another job."""

import contextlib
import signal
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextlib.contextmanager
def listen() -> Iterator[Callable[[], str | None]]:
  """Notes signals that ask a run to stop, instead of ending at once.

  Signals that something else handles already are left to it.

  Yields:
    A function that returns the name of the signal, None before any.
  """
  noted: list[str] = []

  def note(number, frame):
    noted.append(signal.Signals(number).name)

  ours = [s for s in SIGNALS if signal.getsignal(s) is signal.SIG_DFL]
  for number in ours:
    signal.signal(number, note)
  try:
    yield lambda: noted[0] if noted else None
  finally:
    for number in ours:
      signal.signal(number, signal.SIG_DFL)
