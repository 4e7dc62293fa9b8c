"""Scores with modalities missing, by configuration."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flairhub_jax.figures import canvas

# More bars than these are no longer told apart.
_MAX_BARS = 90


@dataclasses.dataclass(frozen=True)
class SubsetRow:
  """Scores with some of the modalities only.

  Attributes:
    modalities: those that were there.
    scores: (percent, half width or None) by name of configuration.
  """

  modalities: Sequence[str]
  scores: Mapping[str, tuple[float, float | None]]


def draw_subsets(
  path: str | os.PathLike,
  title: str,
  modalities: Sequence[str],
  rows: Sequence[SubsetRow],
  configurations: Sequence[str],
) -> None:
  """Draws scores by subset: dots say which modalities were there.

  Bars with intervals; a heat map of the means where these were too many.

  Args:
    path: PNG to write.
    title: what is shown.
    modalities: columns of dots.
    rows: from top to bottom.
    configurations: all names of the report, those without subsets too.
  """
  names = [n for n in configurations if any(n in row.scores for row in rows)]
  has_bars = len(names) == 1 or len(names) * len(rows) <= _MAX_BARS
  step = 0.26 + 0.09 * (len(names) - 1) if has_bars else 0.26
  width = 4.6 if has_bars else 0.42 * len(names)
  dots_width = 0.4 * len(modalities)
  figure, (dots, scores) = canvas.subplots(
    1,
    2,
    sharey=True,
    figsize=(dots_width + width, 1.6 + step * len(rows)),
    width_ratios=(dots_width, width),
  )
  _draw_dots(dots, modalities, rows)
  if has_bars:
    _draw_bars(scores, rows, names, canvas.colours(configurations))
  else:
    _draw_heat_map(scores, rows, names)
  scores.tick_params(axis="y", left=False)
  dots.set_title(title, fontsize=10, loc="left")
  figure.subplots_adjust(wspace=0.03)
  canvas.save(figure, path)


def _draw_bars(
  axis: Any,
  rows: Sequence[SubsetRow],
  names: Sequence[str],
  colours: Mapping[str, Any],
) -> None:
  thickness = 0.8 / len(names)
  for number, name in enumerate(names):
    shown = [
      (i, *r.scores[name]) for i, r in enumerate(rows) if name in r.scores
    ]
    places = [
      i + (number - (len(names) - 1) / 2) * thickness for i, *_ in shown
    ]
    axis.barh(
      places,
      [score for _, score, _ in shown],
      thickness,
      xerr=[half or 0.0 for *_, half in shown],
      color=colours[name],
      error_kw=dict(lw=0.8, capsize=1.5),
      label=canvas.wrap(name),
    )
  axis.set_xlim(left=0)
  axis.set_xlabel("mIoU (%)")
  axis.grid(axis="x", color="0.9")
  axis.set_axisbelow(True)
  if len(names) > 1:
    axis.legend(
      loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False
    )


def _draw_heat_map(
  axis: Any, rows: Sequence[SubsetRow], names: Sequence[str]
) -> None:
  nothing = (np.nan, None)
  table = np.array(
    [[row.scores.get(name, nothing)[0] for name in names] for row in rows]
  )
  low, high = np.nanmin(table), np.nanmax(table)
  axis.imshow(table, cmap="viridis", vmin=low, vmax=high, aspect="auto")
  canvas.write_values(
    axis, table, "{:.1f}", dark_above=low + 0.6 * (high - low)
  )
  axis.set_ylim(len(rows) - 0.5, -0.5)
  _name_columns(axis, [canvas.wrap(name) for name in names])


def _draw_dots(
  axis: Any, modalities: Sequence[str], rows: Sequence[SubsetRow]
) -> None:
  """Filled where a modality was there, and joined by a line."""
  for number, row in enumerate(rows):
    there = [i for i, name in enumerate(modalities) if name in row.modalities]
    axis.plot(range(len(modalities)), [number] * len(modalities), "o", c="0.87")
    axis.plot(there, [number] * len(there), "o-", c="0.15", lw=1.5)
  axis.set_xlim(-0.6, len(modalities) - 0.4)
  axis.set_ylim(len(rows) - 0.4, -0.6)
  axis.set_yticks([])
  _name_columns(axis, modalities)
  for side in axis.spines.values():
    side.set_visible(False)


def _name_columns(axis: Any, names: Sequence[str]) -> None:
  axis.set_xticks(
    range(len(names)),
    names,
    rotation=45,
    ha="right",
    rotation_mode="anchor",
    fontsize=7,
  )
  axis.tick_params(axis="x", length=0)
