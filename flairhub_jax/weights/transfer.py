"""Initialisation of a run from another one with other classes or ids."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flairhub_jax.errors import InputError, InputErrors, listed
from flairhub_jax.models import build
from flairhub_jax.schema import LabelClass, Schema

Shapes = Mapping[str, tuple[int, ...]]
_EXTRA = "additional class"


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
  """The variables of one of the two networks.

  Attributes:
    config: of the run.
    shapes: path of each parameter and statistic -> shape.
    class_axes: path -> class axis -> number of tasks whose classes it has: the
      task of its module, or all tasks.
  """

  config: Any
  shapes: Shapes
  class_axes: Mapping[str, Mapping[int, int]]

  @property
  def ids(self) -> tuple[str, ...]:
    """Ids of the modalities and tasks of the run."""
    return (*self.config.data.modalities, *self.config.data.tasks)

  def class_names(self, path: str, axis: int) -> list[tuple[str, str]]:
    """(task, class) at each index of a class axis."""
    tasks = self.config.data.tasks
    if self.class_axes[path][axis] < len(tasks):
      tasks = [task for task in tasks if _is_of(path, task)]
    return [
      (task, name)
      for task in tasks
      for name in self.config.schema.tasks[task].class_names
    ]


def describe(config: Any) -> NetworkSpec:
  """Traces a network to find its variables and their class axes.

  An axis that grows with an additional class per task is a class axis.
  """
  shapes = _trace(config)
  grown = _trace(_with_additional_classes(config))
  axes = {}
  for path, shape in shapes.items():
    if len(grown.get(path, ())) == len(shape):
      differing = {
        axis: grown[path][axis] - size
        for axis, size in enumerate(shape)
        if grown[path][axis] != size
      }
      if differing:
        axes[path] = differing
  return NetworkSpec(config, shapes, axes)


def _trace(config):
  model = build.build_segmenter(config)
  variables = build.variables_shape(model, build.input_shapes(config))
  return {path: leaf.shape for path, leaf in _leaves(variables)}


def _with_additional_classes(config):
  """Returns the configuration with an additional class in each task."""
  config = config.copy_and_resolve_references()
  tasks = []
  total = 0
  for task in config.schema.tasks.values():
    if task.id in config.data.tasks:
      total += task.num_classes
      largest = max(
        v for i in range(task.num_classes) for v in task.stored_values(i)
      )
      extra = LabelClass(
        name=_EXTRA,
        colour="#000000",
        values=(max(largest, *task.ignored, 0) + 1,),
        parent=task.classes[0].parent,
      )
      task = task.model_copy(update={"classes": (*task.classes, extra)})
    tasks.append(task)
  sensors = tuple(config.schema.sensors.values())
  widths = tuple(config.model.utae.head_widths)
  with config.unlocked():
    config.schema = Schema(
      name=config.schema.name, sensors=sensors, tasks=tuple(tasks)
    )
    for task in config.data.tasks:
      config.tasks[task].merge = {}
    if widths[-1] == total and len(widths) > 1:
      # The last width is the number of classes; without it, it is derived.
      config.model.utae.head_widths = widths[:-1]
  return config


def transfer(
  variables: Any,
  initial: Any,
  *,
  source: NetworkSpec,
  target: NetworkSpec,
  renamed: Mapping[str, str],
  where: object,
) -> tuple[Any, list[str]]:
  """Copies the variables of the source to the target, where both have them.

  Class channels are matched by the names of task and class. Variables of a
  sensor, task or class that the source lacks keep their initial values; all
  others must exist with the same shape.

  Args:
    variables: of the source.
    initial: variables of the target.
    source: network to copy from.
    target: network to copy to.
    renamed: id of a sensor or task of the target -> id in the source.
    where: the source, for errors.

  Returns:
    Variables, and lines about the initialised and unused ones.

  Raises:
    InputError: the two have no sensor and no task in common.
    InputErrors: missing variables or other shapes; one line each.
  """
  copier = _Copier(dict(_leaves(variables)), source, target, renamed)
  result = jax.tree_util.tree_map_with_path(
    lambda keys, leaf: copier.copy(_path(keys), leaf), initial
  )
  if copier.problems:
    raise InputErrors([f"{where}: {line}" for line in copier.problems])
  if not copier.used:
    raise InputError(
      f"{where}, start of {', '.join(target.ids)}",
      "a sensor or task in common, or config.train.init_names",
      ", ".join(source.ids),
    )
  unused = sorted(copier.stored.keys() - copier.used)
  return result, [
    *_lines("initialised", _modules(copier.initialised)),
    *_lines("classes initialised", list(copier.initialised_classes)),
    *_lines("not used", _modules(unused)),
  ]


class _Copier:
  """Copies variables of the source one by one, and records the others."""

  def __init__(self, stored, source, target, renamed):
    self.stored = stored
    self.used: set[str] = set()
    self.initialised: list[str] = []
    self.initialised_classes: dict[str, None] = {}
    self.problems: list[str] = []
    self._source, self._target, self._renamed = source, target, renamed

  def copy(self, path: str, leaf: Any) -> Any:
    """Returns the value of a variable of the target, initially `leaf`."""
    origin = _original(path, self._target.ids, self._renamed)
    if origin not in self.stored:
      if _is_new(path, self._source, self._target, self._renamed):
        self.initialised.append(path)
      else:
        self.problems.append(f"{origin}: expected {leaf.shape}, found none")
      return leaf
    self.used.add(origin)
    value = self.stored[origin]
    axes = self._target.class_axes.get(path, {})
    if axes and axes.keys() == self._source.class_axes.get(origin, {}).keys():
      return self._copy_classes(path, origin, leaf, np.asarray(value))
    if value.shape != leaf.shape:
      self.problems.append(
        f"{origin}: expected {leaf.shape}, found {value.shape}"
      )
    return value

  def _copy_classes(self, path, origin, leaf, value):
    """Copies the channels of the classes that the source has."""
    result = np.array(leaf)
    target = [np.arange(size) for size in result.shape]
    source = [np.arange(size) for size in value.shape]
    for axis in self._target.class_axes[path]:
      names = self._source.class_names(origin, axis)
      index = {name: i for i, name in enumerate(names)}
      pairs = []
      for i, (task, name) in enumerate(self._target.class_names(path, axis)):
        original = self._renamed.get(task, task), name
        if original in index:
          pairs.append((i, index[original]))
        else:
          self.initialised_classes[f"{task}: {name}"] = None
      target[axis], source[axis] = np.array(pairs, int).reshape(-1, 2).T
    result[np.ix_(*target)] = value[np.ix_(*source)]
    return result


def _lines(what: str, names: Sequence[str]) -> list[str]:
  return [f"{what}: {listed(names)}"] if names else []


def _modules(paths: Sequence[str]) -> list[str]:
  return list(dict.fromkeys(path.split("/")[1] for path in paths))


def _is_of(path: str, id: str) -> bool:
  """Whether a module of a path belongs to a sensor or task."""
  return any(f"_{id}_" in f"_{part}_" for part in path.split("/"))


def _original(path: str, ids: Sequence[str], renamed: Mapping[str, str]) -> str:
  """Returns the path in the source: `decoder_NEW` -> `decoder_OLD`."""
  parts = path.split("/")
  # Longer ids first, as one id may end with another.
  for id in sorted(renamed.keys() & set(ids), key=len, reverse=True):
    for i, part in enumerate(parts):
      if part.endswith(f"_{id}"):
        parts[i] = part.removesuffix(id) + renamed[id]
      else:
        parts[i] = part.replace(f"_{id}__", f"_{renamed[id]}__")
  return "/".join(parts)


def _is_new(
  path: str,
  source: NetworkSpec,
  target: NetworkSpec,
  renamed: Mapping[str, str],
) -> bool:
  """Whether a variable belongs to a sensor or task that the source lacks."""
  new = [id for id in target.ids if renamed.get(id, id) not in source.ids]
  if any(_is_of(path, id) for id in new):
    return True
  # The number of layers of a U-TAE's head depends on the number of classes.
  module, *rest = path.split("/")[1:]
  return module.startswith("encoder_") and rest[0] == "head"


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
  for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield _path(keys), leaf


def _path(keys: Any) -> str:
  return jax.tree_util.keystr(keys, simple=True, separator="/")
