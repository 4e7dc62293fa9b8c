"""Whether a data set has the sensors and classes of a run."""

from collections.abc import Iterable
from typing import Any

from flairhub_jax import choice, schema_file
from flairhub_jax.errors import InputErrors


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
    choice.known(f"config.data.{field}", names, known)
  lines = schema_file.contradictions(
    run, dataset.schema, sensors=config.data.modalities, tasks=tasks
  )
  if lines:
    raise InputErrors([f"{dataset.folder}: {line}" for line in lines])
