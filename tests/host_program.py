"""Process-wide state that importing a library must not change."""

import gc
import logging
import os
import signal
import sys
import threading
import warnings
from typing import Any

import jax
import matplotlib
import tqdm
from absl import flags
from jax._src import xla_bridge


def snapshot() -> dict[str, Any]:
  """Returns the state of this process that all its libraries share."""
  loggers = {"": logging.root} | {
    name: logging.getLogger(name)
    for name in list(logging.root.manager.loggerDict)
  }
  return {
    "loggers": {
      name: (
        logger.level,
        list(logger.handlers),
        list(logger.filters),
        logger.propagate,
        logger.disabled,
      )
      for name, logger in loggers.items()
    },
    "hooks": (
      sys.excepthook,
      sys.unraisablehook,
      sys.displayhook,
      threading.excepthook,
    ),
    "gc": (gc.isenabled(), gc.get_threshold()),
    "environment": dict(os.environ),
    "signals": {s: signal.getsignal(s) for s in signal.valid_signals()},
    "matplotlib": (
      dict(matplotlib.rcParams),
      matplotlib.get_backend(auto_select=False),
      "matplotlib.pyplot" in sys.modules,
    ),
    "absl": flags.FLAGS.is_parsed(),
    "jax": (dict(jax.config.values), xla_bridge.backends_are_initialized()),
    "tqdm": (tqdm.tqdm.monitor_interval, len(tqdm.tqdm._instances)),
    "warnings": list(warnings.filters),
    "working folder": os.getcwd(),
    "path": list(sys.path),
  }


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
  """Changed state; new loggers are ignored."""
  loggers = {
    name: (old, after["loggers"][name])
    for name, old in before["loggers"].items()
    if after["loggers"][name] != old
  }
  rest = {
    name: (old, after[name])
    for name, old in before.items()
    if name != "loggers" and after[name] != old
  }
  return rest | ({"loggers": loggers} if loggers else {})
