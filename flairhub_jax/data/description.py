"""Checks of the content of `dataset.json`."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flairhub_jax.schema import Schema

Check = Callable[[Any], bool]
_LARGEST = 2**53  # largest accepted integer, including file sizes
_SIDE = 2**20  # pixels, dates or bands along an axis


def faults(content: Any, schema: Schema) -> list[str]:
  """Checks the type and range of every value of a description.

  Args:
    content: the parsed JSON.
    schema: of the data set.

  Returns:
    A line `field: expected …, found …` for each fault.
  """
  return list(_faults(content, schema))


def _is_whole(value: Any, low: int = 0, high: int = _LARGEST) -> bool:
  is_integer = isinstance(value, int) and not isinstance(value, bool)
  return is_integer and low <= value <= high


def _is_side(value: Any) -> bool:
  return _is_whole(value, 1, _SIDE)


def _is_shape(value: Any) -> bool:
  """Whether it is (h, w, n), or (None, h, w, n) for a series."""
  if not isinstance(value, list) or len(value) not in (3, 4):
    return False
  return all(map(_is_side, value[-3:])) and value[:-3] in ([], [None])


def _is_text(value: Any) -> bool:
  return isinstance(value, str) and value.isprintable()


def _is_positive(value: Any) -> bool:
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  return is_number and 0 < value < math.inf


def _or_none(check: Check) -> Check:
  return lambda value: value is None or check(value)


def _is_counts(value: Any) -> bool:
  return isinstance(value, list) and all(map(_is_whole, value))


_MODALITY: Mapping[str, tuple[str, Check]] = {
  "shape": ("[h, w, bands], of a series [null, h, w, bands]", _is_shape),
  "dtype": ("the name of a type", _is_text),
  "min_dates": ("a number of dates, or null", _or_none(_is_whole)),
  "max_dates": ("a number of dates, or null", _or_none(_is_whole)),
  "gsd": ("metres, or null", _or_none(_is_positive)),
}
_TASK: Mapping[str, tuple[str, Check]] = {
  "shape": ("[h, w, bands]", lambda x: _is_shape(x) and len(x) == 3),
  "dtype": ("uint8 or uint16", lambda x: x in ("uint8", "uint16")),
  "no_data": ("a stored value", lambda x: _is_whole(x, 0, 65535)),
}
_SPLIT: Mapping[str, tuple[str, Check]] = {
  "num_patches": ("a number of patches", lambda n: _is_whole(n, 1)),
  "streams": ("names with lists of shards", lambda x: isinstance(x, dict)),
  "absent": ("names with numbers", lambda x: isinstance(x, dict)),
  "class_counts": ("names with lists of counts", lambda x: isinstance(x, dict)),
}
_SHARD: Mapping[str, tuple[str, Check]] = {
  "file": ("a path", _is_text),
  "sha256": ("a digest", _is_text),
  "bytes": ("a number of bytes", _is_whole),
  "num_records": ("a number of records", _is_whole),
}
_DATES: Mapping[str, tuple[str, Check]] = {
  "shard": ("a shard", lambda x: not list(_fields("shard", x, _SHARD))),
  "cloud_filter": (
    "thresholds, or null",
    _or_none(lambda x: isinstance(x, dict)),
  ),
}


def _faults(content: Any, schema: Schema) -> Iterator[str]:
  for name in ("modalities", "tasks", "splits"):
    if not isinstance(content.get(name), dict):
      yield _line(name, "names with their descriptions", content.get(name))
      return
  yield from _each("modalities", content["modalities"], _MODALITY)
  checks = _TASK
  if content["schema_version"] == 1:
    checks = {"shape": _TASK["shape"]}
  yield from _each("tasks", content["tasks"], checks)
  yield from _contradictions(content, schema)
  size = content.get("output_size")
  if not (_is_shape([*size, 1]) if isinstance(size, list) else False):
    yield _line("output_size", "[height, width]", size)
  known = {*content["modalities"], *content["tasks"]}
  columns = {
    schema.tasks[name].stream
    for name in content["tasks"]
    if name in schema.tasks
  }
  streams = {*content["modalities"], *columns, "PATCH"}
  for split, fields in content["splits"].items():
    where = f"splits.{split}"
    split_faults = list(_fields(where, fields, _SPLIT))
    yield from split_faults
    if split_faults:
      continue
    for name in (*fields["absent"], *fields["class_counts"]):
      if name not in known:
        yield _line(where, "names of sensors and tasks", name)
    for name, shards in fields["streams"].items():
      if name not in streams:
        yield _line(f"{where}.streams", "described sensors and labels", name)
      yield from _shards(f"{where}.streams.{name}", shards)
    if fields.get("num_dates") is not None:
      yield from _fields(f"{where}.num_dates", fields["num_dates"], _DATES)
    for name, count in fields["absent"].items():
      if not _is_whole(count):
        yield _line(f"{where}.absent.{name}", "a number of patches", count)
    for name, counts in fields["class_counts"].items():
      if not _is_counts(counts):
        yield _line(f"{where}.class_counts.{name}", "counts of pixels", counts)


def _contradictions(content: Any, schema: Schema) -> Iterator[str]:
  """Compares sensors and tasks with those of the schema."""
  for kind, known in (
    ("modalities", schema.sensors),
    ("tasks", schema.tasks),
  ):
    for name in content[kind].keys() - known.keys():
      yield _line(kind, "names of the schema", name)
  for name, fields in content["modalities"].items():
    if name not in schema.sensors or not isinstance(fields, dict):
      continue
    sensor, shape = schema.sensors[name], fields.get("shape")
    if not _is_shape(shape):
      continue
    form = (sensor.is_series, len(sensor.bands), sensor.dtype)
    if (len(shape) == 4, shape[-1], fields.get("dtype")) != form:
      kind = "a series" if sensor.is_series else "an image"
      yield _line(
        f"modalities.{name}",
        f"{kind} of {len(sensor.bands)} bands of {sensor.dtype}",
        [shape, fields.get("dtype")],
      )


def _each(where, rows, checks) -> Iterator[str]:
  for name, fields in rows.items():
    yield from _fields(f"{where}.{name}", fields, checks)


def _shards(where: str, shards: Any) -> Iterator[str]:
  if not isinstance(shards, list) or not shards:
    yield _line(where, "a list of shards", shards)
    return
  for i, shard in enumerate(shards):
    yield from _fields(f"{where}[{i}]", shard, _SHARD)


def _fields(where, fields, checks) -> Iterator[str]:
  if not isinstance(fields, dict):
    yield _line(where, "a description", fields)
    return
  for name, (expected, is_good) in checks.items():
    value = fields.get(name)
    if not is_good(value):
      yield _line(f"{where}.{name}", expected, value)


def _line(where: str, expected: str, found: Any) -> str:
  return f"{where}: expected {expected}, found {repr(found)[:80]}"
