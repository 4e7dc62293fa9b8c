"""Whether a data set has the sensors and classes of a run."""

from collections.abc import Iterable
from typing import Any

from flairhub_jax import schema_file
from flairhub_jax.errors import InputError, InputErrors


def check(config: Any, dataset: Any, *, tasks: Iterable[str]) -> None:
  """Refuses a data set that contradicts the schema of a run.

  Args:
    config: configuration of the run.
    dataset: converted data.
    tasks: ids of the label tasks whose labels are read.

  Raises:
    InputError: the run's schema lacks a sensor or task of its configuration.
    InputErrors: bands, types or classes differ, or the data lack them; a line
      each.
  """
  run, tasks = config.schema, tuple(tasks)
  for field, names, known in (
    ("modalities", config.data.modalities, run.sensors),
    ("tasks", tasks, run.tasks),
  ):
    for name in names:
      if name not in known:
        raise InputError(
          f"config.data.{field}", f"any of {', '.join(known)}", repr(name)
        )
  lines = schema_file.contradictions(
    run, dataset.schema, sensors=config.data.modalities, tasks=tasks
  )
  if lines:
    raise InputErrors([f"{dataset.folder}: {line}" for line in lines])
