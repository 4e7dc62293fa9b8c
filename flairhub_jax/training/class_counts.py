"""Numbers of training pixels per class, for the loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flairhub_jax import class_merge, configuration


def of_merged(
  config: Any, class_counts: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, ...]]:
  """Sums the pixel counts over the merged classes of a configuration.

  Args:
    config: a configuration, possibly with merged classes.
    class_counts: number of pixels by task and class of its schema; tasks
      without counts have no entry.

  Returns:
    Number of pixels by task and merged class, for the tasks of the
    configuration.
  """
  result = {}
  for name, merged in configuration.label_tasks(config).items():
    if name not in class_counts:
      continue
    counts = np.asarray(class_counts[name], np.int64)
    groups = class_merge.members(config.schema.tasks[name], merged)
    total = np.zeros(merged.num_classes, np.int64)
    np.add.at(total, groups, counts)
    result[name] = tuple(total.tolist())
  return result
