"""Print what a run expects of rasters, and the classes that it maps."""

import argparse
import json
import textwrap

from flairhub_jax import contract, run_directory, text_table
from flairhub_jax.contract import Contract, SensorContract, TaskContract


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "run_path", metavar="RUN", help="run directory of `train`"
  )
  parser.add_argument(
    "--json", action="store_true", help="JSON instead of tables"
  )


def run(args: argparse.Namespace) -> int:
  """Prints the contract of a run."""
  _, config = run_directory.open_run(args.run_path)
  own = contract.of_run(config)
  text = json.dumps(own.to_json(), indent=2) if args.json else format(own)
  print(text)
  return 0


def format(own: Contract) -> str:
  """Formats a contract for the terminal."""
  parts = [_sensor(row) for row in own.sensors.values()]
  parts += [_task(row) for row in own.tasks.values()]
  return "\n\n".join(parts)


def _sensor(row: SensorContract) -> str:
  kind = "image" if row.series is None else "time series"
  lines = [
    f"{row.id}: {kind}, {row.dtype}, {row.unit or 'unknown unit'}",
    f"  pixels of {row.gsd:g} m, windows of {row.pixels} x {row.pixels}",
  ]
  if row.no_data is not None:
    lines.append(f"  {row.no_data:g} is no data")
  if row.series is not None:
    lines += _series(row.series)
  return "\n".join([*lines, textwrap.indent(_bands(row), "  ")])


def _series(series) -> list[str]:
  months = "unknown months"
  if series.months is not None:
    months = "months " + ", ".join(map(str, series.months))
  lines = [
    f"  file of dates required; training: up to {series.num_dates} dates,"
    f" {months}; days from {series.reference_date}"
  ]
  if series.quality_mask:
    bands = ", ".join(series.quality_mask)
    lines.append(f"  quality mask optional, per date: {bands}")
  return lines


def _bands(row: SensorContract) -> str:
  """A line per band of a file, then of each derived band."""
  headers = ["band", "name", "training mean", "std", "channel", "input"]
  places = {each.band: i + 1 for i, each in enumerate(row.channels)}
  derived = [each.band for each in row.channels if each.difference]
  rows = []
  for i, band in enumerate((*row.bands, *derived)):
    known = row.statistics.get(band)
    place = places.get(band)
    number = str(i + 1) if i < len(row.bands) else ""
    rows.append(
      (
        number,
        band,
        f"{known.mean:.5g}" if known else "",
        f"{known.std:.5g}" if known else "",
        "not read" if place is None else str(place),
        "" if place is None else _formula(row.channels[place - 1]),
      )
    )
  return text_table.format_table(headers, rows, text=2)


def _formula(channel) -> str:
  name = channel.band
  if channel.difference:
    name = " - ".join(channel.difference)
  if (channel.mean, channel.std) == (0, 1):
    return name
  if channel.mean:
    name = f"({name} - {channel.mean:g})"
  elif channel.difference:
    name = f"({name})"
  return name if channel.std == 1 else f"{name} / {channel.std:g}"


def _task(task: TaskContract) -> str:
  rows = [
    (str(value), name, colour)
    for value, (name, colour) in enumerate(
      zip(task.classes, task.colours, strict=True)
    )
  ]
  table = text_table.format_table(["value", "class", "colour"], rows, text=3)
  head = f"{task.id}: {task.title}, labels of {task.gsd:g} m"
  return f"{head}\n{textwrap.indent(table, '  ')}"
