"""Type and range of every field of a configuration.

`configs/base.py` has the meaning and default of a field. Names of parts
(encoders, schedules, bands) are checked where they are built.
"""

import dataclasses
import datetime
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flairhub_jax.schema import Schema

_MOST = 10**9  # of what is counted: steps, epochs, validations
_LARGEST = 1e30  # of numbers that become float32
_SHOWN = 100  # characters of a value in an error
# Grain takes seeds of 32 bits, and augmentation uses the next one.
_LAST_SEED = 2**32 - 2
_NO_LEAP_YEAR = 2001
_DAY = re.compile(r"(?:\d{4}-)?(\d\d)-(\d\d)", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Rule:
  """The values that a field may have.

  Attributes:
    expected: description for errors.
    accepts: whether a value is allowed.
    is_path: whether it is a file or folder, in which `~` is expanded.
    may_be_none: whether None is allowed.
  """

  expected: str
  accepts: Callable[[Any], bool]
  is_path: bool = False
  may_be_none: bool = False


def _is_whole(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
  return isinstance(value, str) and value.isprintable() and len(value) < 4096


@functools.cache
def _whole(low: int, high: int = _MOST) -> Rule:
  return Rule(
    f"a whole number from {low} to {high}",
    lambda value: _is_whole(value) and low <= value <= high,
  )


@functools.cache
def _number(
  low: float = -math.inf, below: float = math.inf, *, above: bool = False
) -> Rule:
  """A finite number from `low` (or above it) to below `below`."""
  words = "a finite number"
  if low > -math.inf:
    words += f" above {low:g}" if above else f", {low:g} or more"
  if below < math.inf:
    words += f" and below {below:g}"

  def accepts(value: Any) -> bool:
    if not (_is_whole(value) or isinstance(value, float)):
      return False
    if not abs(value) <= _LARGEST:  # NaN neither
      return False
    return (value > low if above else value >= low) and value < below

  return Rule(words, accepts)


@functools.cache
def _fraction(least: float = 0) -> Rule:
  return Rule(
    f"a number from {least:g} to 1",
    lambda value: _number(least).accepts(value) and value <= 1,
  )


def _several(one: Rule, what: str, least: int = 0, most: int = 64) -> Rule:
  def accepts(value: Any) -> bool:
    return (
      isinstance(value, (tuple, list))
      and least <= len(value) <= most
      and all(map(one.accepts, value))
    )

  return Rule(what, accepts)


@functools.cache
def _class_weights(count: int) -> Rule:
  """One weight per class: JAX would clamp indices beyond the end silently."""
  weights = _several(_ANY_WEIGHT, "", count, count)
  return Rule(
    f"{count} numbers, one per class, none negative and one positive",
    lambda value: weights.accepts(value) and any(w > 0 for w in value),
  )


def _or_none(rule: Rule) -> Rule:
  return Rule(
    f"{rule.expected}, or None",
    lambda value: value is None or rule.accepts(value),
    may_be_none=True,
  )


def month_and_day(text: Any) -> tuple[int, int] | None:
  """Month and day of `MM-DD` or `YYYY-MM-DD`; None: not a day of every year.

  The year is ignored: days are counted within the year of each acquisition.
  """
  match = _DAY.fullmatch(text) if isinstance(text, str) else None
  if match is None:
    return None
  month, day = int(match[1]), int(match[2])
  try:
    datetime.date(_NO_LEAP_YEAR, month, day)
  except ValueError:
    return None
  return month, day


_ANY_WEIGHT = _number(0)
_BOOL = Rule("True or False", lambda value: isinstance(value, bool))
_NAME = Rule("a name", lambda value: _is_text(value) and value != "")
_NAMES = _several(_NAME, "names, such as ('A', 'B')")
_ONE_NAME = _several(_NAME, "one or more names, such as ('A',)", 1)
_PATH = Rule("a path, or ''", _is_text, is_path=True)
_WIDTHS = _several(_whole(1, 2**16), "1 to 16 widths, positive", 1, 16)
_POWER = Rule(
  "a number from -10 to 10",
  lambda value: _number(-10).accepts(value) and value <= 10,
)
_AXIS = Rule(
  "-1, or a number of devices",
  lambda value: value == -1 or _whole(1).accepts(value),
)
_PERCENT = Rule(
  "a number from 0 to 100",
  lambda value: _number(0).accepts(value) and value <= 100,
)

_RULES: Mapping[str, Rule] = {
  "seed": _whole(0, _LAST_SEED),
  "dtype": _NAME,
  "matmul_precision": _NAME,
  "deterministic": _BOOL,
  "mesh.data": _AXIS,
  "mesh.fsdp": _AXIS,
  "data.path": _PATH,
  "data.fingerprint": _or_none(_NAME),
  "data.modalities": _ONE_NAME,
  "data.tasks": _ONE_NAME,
  "data.batch_size": _whole(1, 2**20),
  "data.num_workers": _whole(0, 1024),
  "data.augment": _NAMES,
  "data.augmentation.crop.fraction": _number(0, 1, above=True),
  "data.augmentation.colour.sensors": _NAMES,
  "data.augmentation.colour.brightness": _number(0, 1),
  "data.augmentation.colour.contrast": _number(0, 1),
  "data.augmentation.colour.saturation": _fraction(),
  "data.augmentation.colour.hue": _fraction(),
  "data.augmentation.noise.sensors": _NAMES,
  "data.augmentation.noise.deviation": _number(0, 100),
  "data.augmentation.dates.probability": _number(0, 1),
  "data.date_buckets": _several(
    _whole(1, 2**14), "one or more lengths, 1 to 16384 dates", 1
  ),
  "data.reference_date": Rule(
    "a day of every year, as month-day (05-15) or year-month-day",
    lambda value: month_and_day(value) is not None,
  ),
  "data.cloud_filter.enabled": _BOOL,
  "data.cloud_filter.max_cloud": _PERCENT,
  "data.cloud_filter.max_snow": _PERCENT,
  "data.cloud_filter.max_cover": _fraction(),
  "data.cloud_filter.fallback": _NAME,
  "data.averaging": _NAME,
  "data.normalisation": _NAME,
  "model.encoder": _NAME,
  "model.drop_path_rate": _or_none(_number(0, 1)),
  "model.encoder_weights": _PATH,
  "model.remat": _NAME,
  "model.decoder": _NAME,
  "model.auxiliary": _NAMES,
  "model.utae.encoder_widths": _WIDTHS,
  "model.utae.decoder_widths": _WIDTHS,
  "model.utae.head_widths": _WIDTHS,
  "model.utae.kernel": _whole(1, 64),
  "model.utae.stride": _whole(1, 64),
  "model.utae.padding": _whole(0, 64),
  "model.utae.aggregation": _NAME,
  "model.utae.encoder_norm": _NAME,
  "model.utae.padding_mode": _NAME,
  "model.utae.num_heads": _whole(1, 2**12),
  "model.utae.attention_width": _whole(1, 2**16),
  "model.utae.key_width": _whole(1, 2**16),
  "model.utae.attention_dropout": _number(0, 1),
  "model.utae.mlp_dropout": _number(0, 1),
  "model.utae.count_padding": _BOOL,
  "fusion.kind": _NAME,
  "fusion.early.periods": _whole(1, 366),
  "fusion.mid_attention.num_heads": _whole(1, 2**12),
  "fusion.mid_attention.key_width": _whole(1, 2**12),
  "task_weighting": _NAME,
  "loss.cross_entropy.weight": _number(0),
  "loss.cross_entropy.label_smoothing": _number(0, 1),
  "loss.focal.weight": _number(0),
  "loss.focal.gamma": _number(0, 100),
  "loss.dice.weight": _number(0),
  "loss.lovasz.weight": _number(0),
  "optim.name": _NAME,
  "optim.learning_rate": _number(0, above=True),
  "optim.weight_decay": _number(0),
  "optim.beta1": _number(0, 1),
  "optim.beta2": _number(0, 1),
  "optim.momentum": _number(0, 1),
  "optim.clip_norm": _number(0),
  "optim.layer_decay": Rule(
    "a number above 0, at most 1",
    lambda value: _number(0, above=True).accepts(value) and value <= 1,
  ),
  "optim.schedule": _NAME,
  "optim.warmup_fraction": _fraction(),
  "optim.div_factor": _number(0, above=True),
  "optim.final_div_factor": _number(0, above=True),
  "optim.plateau.patience": _whole(0),
  "optim.plateau.factor": _number(0, 1, above=True),
  "optim.plateau.cooldown": _whole(0),
  "optim.plateau.min_rate": _number(0),
  "train.init_from": _PATH,
  "train.init_names": _NAMES,
  "train.num_epochs": _whole(1),
  "train.num_steps": _or_none(_whole(1)),
  "train.accumulation": _whole(1, 2**20),
  "train.batch_statistics": _NAME,
  "train.log_every": _whole(1),
  "train.save_every": _whole(1),
  "train.keep_latest": _whole(1),
  "train.keep_best": _whole(1),
  "train.validate_every": _or_none(_whole(1)),
  "train.validate_epochs": _whole(1),
  "train.ema_decay": _number(0, 1),
  "train.patience": _whole(0),
  "train.validation_maps": _whole(0, 10_000),
  "train.compilation_cache": _PATH,
  "train.best_metric": _or_none(_NAME),
}


def rules(
  schema: Schema, merges: Mapping[str, Sequence[str]]
) -> dict[str, Rule]:
  """Rules of all fields of a configuration, by dotted name.

  A last part `*` stands for any name.

  Args:
    schema: sensors and tasks, which have fields of their own.
    merges: task -> names of its merged classes, if any.
  """
  result = dict(_RULES)
  for name, sensor in schema.sensors.items():
    result |= {
      f"inputs.{name}.bands": _ONE_NAME,
      f"inputs.{name}.mean.*": _number(),
      f"inputs.{name}.std.*": _number(0, above=True),
      f"inputs.{name}.pixels": _whole(1, 2**15),
      f"inputs.{name}.gsd": _number(0, above=True),
      f"fusion.modality_dropout.{name}": _number(0, 1),
      f"auxiliary_weight.{name}": _number(0),
      f"optim.encoder_rates.{name}": _number(0),
    }
    if sensor.is_series:
      result[f"inputs.{name}.temporal_average"] = _NAME
      result[f"inputs.{name}.num_dates"] = _whole(1, 2**14)
  for name, task in schema.tasks.items():
    num_classes = len(merges.get(name, ())) or task.num_classes
    result |= {
      f"tasks.{name}.weight": _number(0),
      f"tasks.{name}.merge.*": _ONE_NAME,
      f"tasks.{name}.class_weights": _class_weights(num_classes),
      f"tasks.{name}.frequency_power": _POWER,
    }
  return result


def rule_of(path: str, rules: Mapping[str, Rule]) -> Rule | None:
  """The rule of the field `section.name`; None: there is no such field."""
  section = path.rpartition(".")[0]
  return rules.get(path) or rules.get(f"{section}.*")


def _sections(rules: Mapping[str, Rule]) -> set[str]:
  return {
    ".".join(path.split(".")[:depth])
    for path in rules
    for depth in range(1, path.count(".") + 1)
  }


def faults(values: Mapping[str, Any], schema: Schema) -> list[str]:
  """Checks the value of every field.

  Args:
    values: a configuration as nested dictionaries, without its schema.
    schema: of the sensors and tasks that have fields of their own.

  Returns:
    A line `config.section.field: expected …, found …` for each wrong value.
  """
  lines = []
  known = rules(schema, _merges(values))
  sections = _sections(known)
  for path, value in flatten(values).items():
    rule = rule_of(path, known)
    if path in sections:
      if value == {}:
        continue
      expected = "a section of fields"
    elif rule is None:
      expected = "no such field"
    elif not rule.accepts(value):
      expected = rule.expected
    else:
      continue
    lines.append(f"config.{path}: expected {expected}, found {_short(value)}")
  return lines


def _merges(values: Mapping[str, Any]) -> dict[str, Sequence[str]]:
  """Names of merged classes by task; malformed sections have none."""
  tasks = values.get("tasks")
  rows = tasks.items() if isinstance(tasks, Mapping) else ()
  merges = {
    name: row["merge"]
    for name, row in rows
    if isinstance(row, Mapping) and isinstance(row.get("merge"), Mapping)
  }
  return {name: tuple(merge) for name, merge in merges.items()}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Values by path, `section.field`; an empty section is `{}`."""
  flat = {}
  for name, value in values.items():
    path = f"{prefix}{name}"
    if isinstance(value, Mapping) and value:
      flat |= flatten(value, f"{path}.")
    else:
      flat[path] = value
  return flat


def _short(value: Any) -> str:
  try:
    text = repr(value)
  except ValueError:  # whole numbers of more than 4300 digits
    text = "a number too long to print"
  return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
