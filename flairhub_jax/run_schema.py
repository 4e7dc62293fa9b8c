"""Sensors and classes of a run, compared with those of a data set."""

from collections.abc import Iterable
from typing import Any

from flairhub_jax import choice, schema_file
from flairhub_jax.errors import InputErrors
from flairhub_jax.schema import Schema


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


def as_trained(config: Any) -> Any:
  """A configuration whose schema has the pixels of its training data.

  A data set may cover the ground of its schema with larger pixels; the network
  has learned the sizes of objects in these.
  """
  sensors = tuple(
    row.model_copy(
      update={
        "gsd": config.inputs[row.id].gsd,
        "pixels": config.inputs[row.id].pixels,
      }
    )
    for row in config.schema.sensor_rows
  )
  result = config.copy_and_resolve_references()
  with result.unlocked():
    result.schema = Schema(
      name=config.schema.name, sensors=sensors, tasks=config.schema.task_rows
    )
  return result
