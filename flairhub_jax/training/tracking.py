"""What a run tells: JSON lines, TensorBoard events, a text log."""

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

import tensorboardX

from flairhub_jax import atomic, run_directory

logger = logging.getLogger("flairhub")


class Tracker:
  """Writes the records of a run; a continued run repeats none."""

  def __init__(self, run: run_directory.RunDirectory, start_step: int):
    """Opens the files, dropping what lies after `start_step`.

    A killed run may have told more than it saved; those steps come again.
    """
    records = run_directory.read_records(run.metrics)
    kept = [r for r in records if r.get("step", 0) <= start_step]
    atomic.write_text(run.metrics, "".join(json.dumps(r) + "\n" for r in kept))
    self._lines = open(run.metrics, "a", encoding="utf-8")
    self._events = tensorboardX.SummaryWriter(
      str(run.tensorboard), purge_step=start_step + 1
    )
    self._handler = logging.FileHandler(run.log, encoding="utf-8")
    self._handler.setFormatter(
      logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
    )
    logger.addHandler(self._handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False

  def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
    """Records named numbers after `step` updates.

    Args:
      kind: `train` or `valid`.
      step: updates applied.
      values: numbers by name.
    """
    record = {"kind": kind, "step": step, **values}
    self._lines.write(json.dumps(record) + "\n")
    self._lines.flush()
    for name, value in values.items():
      if isinstance(value, (int, float)) and math.isfinite(value):
        self._events.add_scalar(f"{kind}/{name}", value, step)

  def close(self) -> None:
    """Flushes and closes all files."""
    self._lines.close()
    self._events.close()
    logger.removeHandler(self._handler)
    self._handler.close()
