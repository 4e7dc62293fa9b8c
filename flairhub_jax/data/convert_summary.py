"""Counts, statistics and warnings about the patches of a conversion."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Num

from flairhub_jax.data import label_values, patch_files
from flairhub_jax.schema import Schema
from flairhub_jax.schema_file import GSD_TOLERANCE

_MAX_NOTES = 10


class Summary:
  """Counts and sums over patches; summaries of shards add up to the split's."""

  def __init__(self, with_statistics: bool):
    """Starts empty; sums pixel values only if `with_statistics`."""
    self._with_statistics = with_statistics
    self.absent: dict[str, int] = {}
    # Series -> minimum and maximum number of dates of a patch.
    self.num_dates: dict[str, tuple[int, int]] = {}
    # Column -> minimum and maximum width of a pixel, in metres.
    self.gsds: dict[str, tuple[float, float]] = {}
    self.class_counts: dict[str, np.ndarray] = {}
    self.statistics: dict[str, dict[str, np.ndarray]] = {}
    # Text -> number of files, sum of fractions (None: whole file), first file.
    self.notes: dict[str, tuple[int, float | None, str]] = {}

  def add(
    self,
    content: patch_files.PatchContent,
    streams: tuple[str, ...],
    schema: Schema,
  ) -> None:
    """Adds the content of a patch."""
    arrays = content.arrays
    for note in content.notes:
      self.add_note(note.text, 1, note.fraction, note.path)
    for name, gsd in content.gsds.items():
      self.add_gsd(name, gsd, gsd)
    for name in streams:
      if name in schema.sensors and name not in arrays:
        self.absent[name] = self.absent.get(name, 0) + 1
      elif name in schema.sensors:
        self._add_values(name, arrays[name], content.missing.get(name))

      for task in schema.label_columns.get(name, ()):
        labels = arrays[name]["labels"]
        if task.band < labels.shape[-1]:
          counts = label_values.count_classes(labels, task)
          self.add_class_counts(task.id, counts)

  def add_note(
    self, text: str, number: int, fraction: float | None, path: str
  ) -> None:
    """Adds files to the note with this text."""
    if text in self.notes:
      known, sum_of_fractions, path = self.notes[text]
      number += known
      if fraction is not None:
        fraction += sum_of_fractions
    self.notes[text] = number, fraction, path

  def _add_values(
    self,
    name: str,
    arrays: Mapping[str, np.ndarray],
    missing: np.ndarray | None,
  ) -> None:
    if "dates" in arrays:
      num_dates = len(arrays["dates"])
      self.add_num_dates(name, num_dates, num_dates)
    if self._with_statistics:
      self.add_statistics(name, _sum_bands(arrays["values"], missing))

  def add_num_dates(self, name: str, fewest: int, most: int) -> None:
    """Updates the minimum and maximum number of dates of a series."""
    known = self.num_dates.get(name, (fewest, most))
    self.num_dates[name] = (min(known[0], fewest), max(known[1], most))

  def add_gsd(self, name: str, finest: float, coarsest: float) -> None:
    """Updates the minimum and maximum width of the pixels of a column."""
    known = self.gsds.get(name, (finest, coarsest))
    self.gsds[name] = (min(known[0], finest), max(known[1], coarsest))

  def gsd(self, name: str) -> float | None:
    """Width of the pixels of a column in metres; None: unknown or several."""
    finest, coarsest = self.gsds.get(name, (0.0, np.inf))
    if coarsest > (1 + 2 * GSD_TOLERANCE) * finest:
      return None
    return float(f"{(finest + coarsest) / 2:.6g}")

  def add_class_counts(self, task: str, counts: np.ndarray) -> None:
    """Adds the number of pixels of each class."""
    self.class_counts[task] = self.class_counts.get(task, 0) + counts

  def add_statistics(self, name: str, sums: Mapping[str, np.ndarray]) -> None:
    """Adds count, sum, sum_squares, min and max of each band."""
    if name not in self.statistics:
      self.statistics[name] = dict(sums)
      return
    total = self.statistics[name]
    for field in ("count", "sum", "sum_squares"):
      total[field] = total[field] + sums[field]
    total["min"] = np.fmin(total["min"], sums["min"])
    total["max"] = np.fmax(total["max"], sums["max"])

  def add_json(self, content: Mapping[str, Any]) -> None:
    """Adds another summary, given as the result of its `as_json`."""
    for name, count in content["absent"].items():
      self.absent[name] = self.absent.get(name, 0) + count
    for name, (fewest, most) in content["num_dates"].items():
      self.add_num_dates(name, fewest, most)
    for name, (finest, coarsest) in content.get("gsds", {}).items():
      self.add_gsd(name, finest, coarsest)
    for text, note in content["notes"].items():
      self.add_note(text, *note)
    for task, counts in content["class_counts"].items():
      self.add_class_counts(task, np.array(counts))
    for name, sums in content["statistics"].items():
      self.add_statistics(
        name, {field: np.array(each, float) for field, each in sums.items()}
      )

  def as_json(self) -> dict[str, Any]:
    """Returns a lossless JSON representation."""
    return {
      "absent": self.absent,
      "notes": self.notes,
      "num_dates": self.num_dates,
      "gsds": self.gsds,
      "class_counts": {
        task: counts.tolist() for task, counts in self.class_counts.items()
      },
      "statistics": {
        name: {field: each.tolist() for field, each in sums.items()}
        for name, sums in self.statistics.items()
      },
    }

  def band_statistics(
    self, name: str, bands: Sequence[str]
  ) -> dict[str, dict[str, float | None]]:
    """Returns band -> mean, std, min, max; None for a band without values."""
    sums = self.statistics.get(name)
    if sums is None:
      fields = dict.fromkeys(("mean", "std", "min", "max"))
      return {band: dict(fields) for band in bands}
    with np.errstate(invalid="ignore"):
      mean = sums["sum"] / sums["count"]
      variance = sums["sum_squares"] / sums["count"] - mean**2
    # Rounding can make the variance of a constant band slightly negative.
    columns = {
      "mean": mean,
      "std": np.sqrt(np.maximum(variance, 0)),
      "min": sums["min"],
      "max": sums["max"],
    }
    return {
      band: {
        field: float(values[i]) if sums["count"][i] else None
        for field, values in columns.items()
      }
      for i, band in enumerate(bands)
    }


def print_notes(contents: Iterable[Mapping[str, Any]]) -> None:
  """Prints warnings about the files to stderr, most frequent first.

  Args:
    contents: summaries of the shards, see `Summary.as_json`.
  """
  total = Summary(with_statistics=False)
  for content in contents:
    for text, note in content["notes"].items():
      total.add_note(text, *note)
  notes = sorted(total.notes.items(), key=lambda item: -item[1][0])
  for text, (number, fraction, path) in notes[:_MAX_NOTES]:
    of_values = "" if fraction is None else f"{fraction / number:.2%} of "
    print(
      f"warning: {text}: {of_values}{number} files, first {path}",
      file=sys.stderr,
    )
  if len(notes) > _MAX_NOTES:
    print(f"and {len(notes) - _MAX_NOTES} more", file=sys.stderr)


def _sum_bands(
  values: Num[np.ndarray, "... c"], missing: Bool[np.ndarray, "... c"] | None
) -> dict[str, np.ndarray]:
  """Returns sums over the finite values of each band, each float64 [c]."""
  num_bands = values.shape[-1]
  fields = ("count", "sum", "sum_squares", "min", "max")
  sums = {field: np.full(num_bands, np.nan) for field in fields}
  for i in range(num_bands):
    band = values[..., i].astype(np.float64).ravel()
    if missing is not None:
      band = band[~missing[..., i].ravel()]
    if np.issubdtype(values.dtype, np.floating):
      band = band[np.isfinite(band)]
    sums["count"][i] = band.size
    sums["sum"][i] = band.sum()
    sums["sum_squares"][i] = np.square(band).sum()
    if band.size:
      sums["min"][i], sums["max"][i] = band.min(), band.max()
  return sums
