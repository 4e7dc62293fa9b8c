"""Figure of scores with missing modalities, by configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flairhub_jax.figures import canvas

if TYPE_CHECKING:
  import pandas as pd

_MAX_BARS = 90  # that are distinguishable


def draw_subsets(
  path: str | os.PathLike,
  title: str,
  summary: pd.DataFrame,
  colours: Mapping[str, Any],
  modalities: Sequence[str],
) -> None:
  """Draws scores by subset, with dots for its modalities.

  Scores are bars with intervals, or a heat map of the means if there are too
  many bars.

  Args:
    path: PNG to write.
    title: of the figure.
    summary: columns `modalities` (ids joined by +), `configuration`, `mean`
      and `half_width` (percent; NaN without an interval).
    colours: by name of configuration.
    modalities: order of the columns; those in no subset are not drawn.
  """
  means, half_widths = (
    summary.pivot(index="modalities", columns="configuration", values=values)
    for values in ("mean", "half_width")
  )
  subsets = [subset.split("+") for subset in means.index]
  modalities = [m for m in modalities if any(m in row for row in subsets)]
  num_rows, num_names = means.shape
  has_bars = num_names == 1 or means.size <= _MAX_BARS
  step = 0.26 + 0.09 * (num_names - 1) if has_bars else 0.26
  width = 4.6 if has_bars else 0.42 * num_names
  dots_width = 0.4 * len(modalities)
  figure, (dots, axis) = canvas.subplots(
    1,
    2,
    sharey=True,
    figsize=(dots_width + width, 1.6 + step * num_rows),
    width_ratios=(dots_width, width),
  )
  _draw_dots(dots, modalities, subsets)
  if has_bars:
    _draw_bars(axis, means, half_widths.fillna(0), colours)
  else:
    _draw_heat_map(axis, means)
  axis.tick_params(axis="y", left=False)
  dots.set_title(title, fontsize=10, loc="left")
  figure.subplots_adjust(wspace=0.03)
  canvas.save(figure, path)


def _draw_bars(
  axis: Any,
  means: pd.DataFrame,
  half_widths: pd.DataFrame,
  colours: Mapping[str, Any],
) -> None:
  thickness = 0.8 / len(means.columns)
  rows = np.arange(len(means))
  for number, name in enumerate(means):
    axis.barh(
      rows + (number - (len(means.columns) - 1) / 2) * thickness,
      means[name],
      thickness,
      xerr=half_widths[name],
      color=colours[name],
      error_kw=dict(lw=0.8, capsize=1.5),
      label=canvas.wrap(name),
    )
  axis.set_xlim(left=0)
  axis.set_xlabel("mIoU (%)")
  axis.grid(axis="x", color="0.9")
  axis.set_axisbelow(True)
  if len(means.columns) > 1:
    canvas.add_legend(axis)


def _draw_heat_map(axis: Any, means: pd.DataFrame) -> None:
  table = means.to_numpy()
  low, high = np.nanmin(table), np.nanmax(table)
  axis.imshow(table, cmap="viridis", vmin=low, vmax=high, aspect="auto")
  canvas.write_values(
    axis, table, "{:.1f}", dark_above=low + 0.6 * (high - low)
  )
  axis.set_ylim(len(means) - 0.5, -0.5)
  canvas.name_columns(axis, [canvas.wrap(name) for name in means])


def _draw_dots(
  axis: Any, modalities: Sequence[str], subsets: Sequence[Sequence[str]]
) -> None:
  """Draws dark, connected dots for the modalities of each subset."""
  for number, subset in enumerate(subsets):
    present = [i for i, name in enumerate(modalities) if name in subset]
    axis.plot(range(len(modalities)), [number] * len(modalities), "o", c="0.87")
    axis.plot(present, [number] * len(present), "o-", c="0.15", lw=1.5)
  axis.set_xlim(-0.6, len(modalities) - 0.4)
  axis.set_ylim(len(subsets) - 0.4, -0.6)
  axis.set_yticks([])
  canvas.name_columns(axis, modalities)
  for edge in axis.spines.values():
    edge.set_visible(False)
