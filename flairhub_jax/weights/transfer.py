"""Weights of one run as the start of another, with other classes or ids."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flairhub_jax.errors import InputError, InputErrors, listed
from flairhub_jax.models import build
from flairhub_jax.schema import LabelClass, Schema

Shapes = Mapping[str, tuple[int, ...]]
_EXTRA = "one class more"


@dataclasses.dataclass(frozen=True)
class Side:
  """The network of one of the two runs.

  Attributes:
    config: of the run.
    shapes: path of each parameter and statistic -> shape.
    class_axes: path -> axes along which classes are counted, and of how many
      tasks: of its module's own task, or of all.
  """

  config: Any
  shapes: Shapes
  class_axes: Mapping[str, Mapping[int, int]]

  @property
  def ids(self) -> tuple[str, ...]:
    """Sensors and tasks in use."""
    return (*self.config.data.modalities, *self.config.data.tasks)

  def class_names(self, path: str, axis: int) -> list[tuple[str, str]]:
    """(task, class) of each position of a class axis."""
    tasks = self.config.data.tasks
    if self.class_axes[path][axis] < len(tasks):
      tasks = [task for task in tasks if _names(path, task)]
    return [
      (task, name)
      for task in tasks
      for name in self.config.schema.tasks[task].class_names
    ]


def describe(config: Any) -> Side:
  """Traces a network to find its parameters and their class axes."""
  shapes = _trace(config)
  more = _trace(_with_one_class_more(config))
  axes = {}
  for path, shape in shapes.items():
    if len(more.get(path, ())) == len(shape):
      differing = {
        axis: more[path][axis] - size
        for axis, size in enumerate(shape)
        if more[path][axis] != size
      }
      if differing:
        axes[path] = differing
  return Side(config, shapes, axes)


def _trace(config):
  model = build.build_segmenter(config)
  variables = build.variables_shape(model, build.input_shapes(config))
  return {path: leaf.shape for path, leaf in _leaves(variables)}


def _with_one_class_more(config):
  """The same network, each of whose tasks has one class more."""
  config = config.copy_and_resolve_references()
  tasks = []
  total = 0
  for task in config.schema.tasks.values():
    if task.id in config.data.tasks:
      total += task.num_classes
      free = max(
        v for i in range(task.num_classes) for v in task.stored_values(i)
      )
      extra = LabelClass(
        name=_EXTRA,
        colour="#000000",
        values=(max(free, *task.ignored, 0) + 1,),
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
      # Its last width serves as the classes; without it they follow alike.
      config.model.utae.head_widths = widths[:-1]
  return config


def transfer(
  variables: Any,
  drawn: Any,
  *,
  source: Side,
  target: Side,
  renamed: Mapping[str, str],
  where: object,
) -> tuple[Any, list[str]]:
  """Returns the target's variables, as far as possible those of the source.

  Channels of classes are taken by name of task and class. What belongs to a
  sensor, task or class that the source lacks is drawn; everything else must be
  there with the same shape.

  Args:
    variables: of the source.
    drawn: initial variables of the target.
    source: the network they come from.
    target: the network they go to.
    renamed: id of a sensor or task of the target -> id in the source.
    where: the source, for errors.

  Returns:
    Variables, and lines about what was drawn or left out.

  Raises:
    InputError: the two have no sensor and no task in common.
    InputErrors: other parameters, or other shapes; one line each.
  """
  taker = _Taker(dict(_leaves(variables)), source, target, renamed)
  result = jax.tree_util.tree_map_with_path(
    lambda keys, leaf: taker.take(_path(keys), leaf), drawn
  )
  if taker.problems:
    raise InputErrors([f"{where}: {line}" for line in taker.problems])
  if not taker.used:
    raise InputError(
      f"{where}, start of {', '.join(target.ids)}",
      "a sensor or task in common, or config.train.init_names",
      ", ".join(source.ids),
    )
  left = sorted(taker.stored.keys() - taker.used)
  return result, [
    *_lines("drawn", _modules(taker.drawn)),
    *_lines("classes drawn", list(taker.drawn_classes)),
    *_lines("left out", _modules(left)),
  ]


class _Taker:
  """Takes parameters of the source one by one, and records what it cannot."""

  def __init__(self, stored, source, target, renamed):
    self.stored = stored
    self.used: set[str] = set()
    self.drawn: list[str] = []
    self.drawn_classes: dict[str, None] = {}
    self.problems: list[str] = []
    self._source, self._target, self._renamed = source, target, renamed

  def take(self, path: str, leaf: Any) -> Any:
    """Returns the value of a parameter of the target, drawn as `leaf`."""
    origin = _original(path, self._target.ids, self._renamed)
    if origin not in self.stored:
      if _is_new(path, self._source, self._target, self._renamed):
        self.drawn.append(path)
      else:
        self.problems.append(f"{origin}: expected {leaf.shape}, found none")
      return leaf
    self.used.add(origin)
    value = self.stored[origin]
    axes = self._target.class_axes.get(path, {})
    if axes and axes.keys() == self._source.class_axes.get(origin, {}).keys():
      return self._by_class(path, origin, leaf, np.asarray(value))
    if value.shape != leaf.shape:
      self.problems.append(
        f"{origin}: expected {leaf.shape}, found {value.shape}"
      )
    return value

  def _by_class(self, path, origin, leaf, value):
    """Takes the channels of the classes that the source has."""
    result = np.array(leaf)
    to = [np.arange(size) for size in result.shape]
    of = [np.arange(size) for size in value.shape]
    for axis in self._target.class_axes[path]:
      names = self._source.class_names(origin, axis)
      place = {name: i for i, name in enumerate(names)}
      pairs = []
      for i, (task, name) in enumerate(self._target.class_names(path, axis)):
        old = self._renamed.get(task, task), name
        if old in place:
          pairs.append((i, place[old]))
        else:
          self.drawn_classes[f"{task}: {name}"] = None
      to[axis], of[axis] = np.array(pairs, int).reshape(-1, 2).T
    result[np.ix_(*to)] = value[np.ix_(*of)]
    return result


def _lines(what: str, names: Sequence[str]) -> list[str]:
  return [f"{what}: {listed(names)}"] if names else []


def _modules(paths: Sequence[str]) -> list[str]:
  return list(dict.fromkeys(path.split("/")[1] for path in paths))


def _names(path: str, id: str) -> bool:
  """Whether a module of a path belongs to a sensor or task."""
  return any(f"_{id}_" in f"_{part}_" for part in path.split("/"))


def _original(path: str, ids: Sequence[str], renamed: Mapping[str, str]) -> str:
  """The path in the source: `decoder_NEW/head` -> `decoder_OLD/head`."""
  parts = path.split("/")
  # Longer ids first: one may end with another.
  for id in sorted(renamed.keys() & set(ids), key=len, reverse=True):
    for i, part in enumerate(parts):
      if part.endswith(f"_{id}"):
        parts[i] = part.removesuffix(id) + renamed[id]
      else:
        parts[i] = part.replace(f"_{id}__", f"_{renamed[id]}__")
  return "/".join(parts)


def _is_new(
  path: str, source: Side, target: Side, renamed: Mapping[str, str]
) -> bool:
  """Whether a parameter belongs to what the source does not have."""
  lacking = [id for id in target.ids if renamed.get(id, id) not in source.ids]
  if any(_names(path, id) for id in lacking):
    return True
  # The head of a U-TAE has a number of layers that depends on the classes.
  module, *rest = path.split("/")[1:]
  return module.startswith("encoder_") and rest[0] == "head"


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
  for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield _path(keys), leaf


def _path(keys: Any) -> str:
  return jax.tree_util.keystr(keys, simple=True, separator="/")
