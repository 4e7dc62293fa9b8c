"""Status lines that a sweep prints as its runs start and end."""

import os
import time
from collections.abc import Sequence

from flairhub_jax.studies import sweep


class Watch:
  """Reads the progress of the runs from their folders and prints it."""

  def __init__(
    self,
    directory: sweep.SweepDirectory,
    names: Sequence[str],
    split: str,
    subsets: str | None = None,
  ):
    """Reads the progress of each run.

    Args:
      directory: of the sweep.
      names: of its runs.
      split: on which they are evaluated.
      subsets: of modalities to evaluate; None: only the full set.
    """
    self._directory, self._names = directory, names
    self._split, self._subsets = split, subsets
    self.faults: dict[str, str] = {}  # error lines of failed runs by name
    self._started: dict[str, float] = {}
    self.progress: dict[str, sweep.Progress] = {}
    for name in names:
      self._read(name)

  def _read(self, name: str) -> sweep.Progress:
    self.progress[name] = sweep.read_progress(
      self._directory.run(name), self._split, self._subsets
    )
    return self.progress[name]

  def unfinished(self) -> list[str]:
    """Names of the runs that are not finished, in order."""
    return [n for n in self._names if self.progress[n].state != "finished"]

  def states(self) -> dict[str, str]:
    """State of every run by name."""
    return {
      name: "failed" if name in self.faults else self.progress[name].state
      for name in self._names
    }

  def started(self, name: str) -> None:
    """Prints that a run starts or continues."""
    self._started[name] = time.monotonic()
    step = self.progress[name].step
    print(name, f"continues at step {step}" if step else "starts", flush=True)

  def ended(self, name: str, fault: str) -> None:
    """Prints the result of a run: scores if it is finished, else the error."""
    progress = self._read(name)
    after = ""
    if name in self._started:
      after = f" after {time.monotonic() - self._started[name]:.0f} s"
    if progress.state == "finished":
      scores = ", ".join(f"{t} {s:.2f}" for t, s in progress.scores.items())
      best = "-" if progress.best is None else f"{progress.best:.2f}"
      text = f"step {progress.step}, best {best}, {self._split} mIoU {scores}"
    else:
      self.faults[name] = fault or "it ended without scores"
      logs = os.path.relpath(self._directory.logs(name), self._directory.path)
      text = f"{self.faults[name]} ({logs})"
    count = f"[{len(self._names) - len(self.unfinished())}/{len(self._names)}]"
    state = self.states()[name]
    print(f"{count} {name} {state}{after}: {text}", flush=True)
