"""Scores with modalities missing, from runs evaluated on their subsets."""

from collections.abc import Mapping, Sequence

from flairhub_jax import figures
from flairhub_jax.modalities import MODALITIES
from flairhub_jax.studies import tables
from flairhub_jax.studies.configurations import Configuration
from flairhub_jax.studies.statistics import Estimate, estimate

Subset = tuple[str, ...]


def read(
  rows: Sequence[Configuration], task: str, score: str
) -> dict[Subset, dict[str, Estimate]]:
  """Returns a score by subset of modalities and configuration.

  Subsets come in the order of the picture: the largest first, and among those
  of one size as `MODALITIES` has them. Runs that were not evaluated on subsets
  are not in it.
  """
  values: dict[Subset, dict[str, list[float]]] = {}
  for row in rows:
    for run in row.runs.values():
      for entry in run.subsets["subsets"] if run.subsets else ():
        there = entry["modalities"]
        subset = tuple(name for name in MODALITIES if name in there)
        by_name = values.setdefault(subset, {})
        by_name.setdefault(row.name, []).append(entry["tasks"][task][score])
  order = list(MODALITIES)
  return {
    subset: {
      name: estimate(numbers) for name, numbers in values[subset].items()
    }
    for subset in sorted(
      values, key=lambda s: (-len(s), [order.index(name) for name in s])
    )
  }


def modalities_of(found: Mapping[Subset, object]) -> list[str]:
  """Modalities that occur, in the order of the table."""
  there = set().union(*found)
  return [name for name in MODALITIES if name in there]


def table(found: Mapping[Subset, Mapping[str, Estimate]]) -> tables.Table:
  """A row per subset, a column per configuration."""
  names = _names(found)
  return tables.Table(
    header=["modalities", *(f"{name}, mIoU %" for name in names)],
    rows=[
      [
        " + ".join(subset),
        *(tables.with_interval(row.get(name)) for name in names),
      ]
      for subset, row in found.items()
    ],
  )


def picture_rows(
  found: Mapping[Subset, Mapping[str, Estimate]],
) -> list[figures.SubsetRow]:
  """What `figures.draw_subsets` draws."""
  return [
    figures.SubsetRow(
      subset, {name: (e.mean, e.half_width) for name, e in row.items()}
    )
    for subset, row in found.items()
  ]


def records(rows: Sequence[Configuration]) -> tables.Records:
  """Every score of every subset, task and configuration."""
  return [
    {
      "configuration": name,
      "task": task,
      "score": score,
      "modalities": "+".join(subset),
    }
    | tables.numbers(result)
    for task in tables.tasks_of(rows)
    for score in tables.COMPARED
    for subset, row in read(
      [row for row in rows if task in row.tasks], task, score
    ).items()
    for name, result in row.items()
  ]


def _names(found: Mapping[Subset, Mapping[str, Estimate]]) -> list[str]:
  return list(dict.fromkeys(name for row in found.values() for name in row))
