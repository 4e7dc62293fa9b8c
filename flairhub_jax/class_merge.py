"""Merged classes of a label task, and scores on them."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from flairhub_jax.errors import InputError
from flairhub_jax.schema import LabelClass, LabelTask


def merge_classes(
  task: LabelTask, groups: Mapping[str, Sequence[str]], *, where: str
) -> LabelTask:
  """Returns a task with merged classes.

  A merged class has the colour of its first class, and is scored if any of its
  classes is.

  Args:
    task: the task.
    groups: new name -> names of the classes merged into it; each class once.
    where: the field, for errors.

  Raises:
    InputError: an unknown class, one named twice, or one left out.
  """
  if not groups:
    return task
  position = {name: i for i, name in enumerate(task.class_names)}
  used: dict[str, str] = {}
  classes = []
  for new, names in groups.items():
    if not names:
      raise InputError(f"{where}.{new}", "at least one class", "none")
    for name in names:
      if name not in position:
        raise InputError(
          f"{where}.{new}", f"any of {', '.join(position)}", repr(name)
        )
      if name in used:
        raise InputError(
          f"{where}.{new}", f"{name!r} once", f"it in {used[name]!r} too"
        )
      used[name] = new
    members = [task.classes[position[name]] for name in names]
    classes.append(
      LabelClass(
        name=new,
        colour=members[0].colour,
        is_scored=any(each.is_scored for each in members),
        values=tuple(
          value
          for name in names
          for value in task.stored_values(position[name])
        ),
      )
    )
  if left := [name for name in position if name not in used]:
    raise InputError(where, "every class once", f"none with {', '.join(left)}")
  return LabelTask(
    **{
      **{name: getattr(task, name) for name in type(task).model_fields},
      "classes": tuple(classes),
      "parent": None,
    }
  )


def members(task: LabelTask, merged: LabelTask) -> Int[np.ndarray, "k"]:
  """Returns, for each class of a task, its position among merged classes."""
  position = {
    value: index
    for index in range(merged.num_classes)
    for value in merged.stored_values(index)
  }
  return np.array(
    [position[task.stored_values(i)[0]] for i in range(task.num_classes)]
  )


def parents(task: LabelTask, above: LabelTask) -> Int[np.ndarray, "k"]:
  """Returns, for each class of a task, its position on the level above."""
  names = {name: index for index, name in enumerate(above.class_names)}
  return np.array([names[each.parent] for each in task.classes])


def merge_confusion(
  confusion: Int[np.ndarray, "k k"], groups: Int[np.ndarray, "k"], number: int
) -> Int[np.ndarray, "m m"]:
  """Returns the confusion matrix of merged classes.

  Args:
    confusion: rows true, columns predicted.
    groups: position of the merged class of each class.
    number: number of merged classes.
  """
  result = np.zeros((number, number), confusion.dtype)
  np.add.at(result, (groups[:, None], groups[None, :]), confusion)
  return result
