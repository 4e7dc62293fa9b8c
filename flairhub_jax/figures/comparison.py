"""Configurations side by side: scores, classes, curves, costs."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import ticker, transforms

from flairhub_jax import labels
from flairhub_jax.figures import canvas

_PUBLISHED = dict(marker="D", color="black", markerfacecolor="none", ls="none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """One configuration's score.

  Attributes:
    name: of the configuration.
    score: percent.
    half_width: of the interval around it, None without one.
    x: what it costs, where the picture has such an axis.
    values: scores of the single runs.
    published: score of the experiment of the same inputs, if there is one.
    published_x: what that cost.
  """

  name: str
  score: float
  half_width: float | None
  x: float = 0.0
  values: Sequence[float] = ()
  published: float | None = None
  published_x: float | None = None


def draw_scores(
  path: str | os.PathLike,
  title: str,
  points: Sequence[Point],
  configurations: Sequence[str],
) -> None:
  """Draws mIoU by configuration: mean, interval, runs, published score.

  Args:
    path: PNG to write.
    title: what is shown.
    points: from top to bottom.
    configurations: all names of the report, for the colours.
  """
  figure, axis = canvas.subplots(figsize=(7.5, 1.3 + 0.42 * len(points)))
  colours = canvas.colours(configurations)
  for row, point in enumerate(points):
    axis.errorbar(
      point.score,
      row,
      xerr=point.half_width,
      fmt="o",
      capsize=4,
      color=colours[point.name],
      zorder=3,
    )
    axis.plot(point.values, [row] * len(point.values), "|", ms=11, color="0.45")
    if point.published is not None:
      axis.plot(point.published, row, **_PUBLISHED)
  axis.set_yticks(range(len(points)), [canvas.wrap(p.name) for p in points])
  axis.tick_params(axis="y", labelsize=8)
  axis.set_ylim(len(points) - 0.4, -0.6)
  axis.set_xlabel("mIoU (%)")
  axis.grid(axis="x", color="0.9")
  axis.set_title(title, fontsize=10)
  _explain_marks(axis, points)
  canvas.save(figure, path)


def _explain_marks(axis: Any, points: Sequence[Point]) -> None:
  """A legend of the kinds of marks that occur."""
  handles = [axis.plot([], [], "o", color="0.3", label="mean")[0]]
  if any(point.half_width is not None for point in points):
    handles.append(
      axis.errorbar(
        [], [], xerr=[], color="0.3", capsize=4, label="95 % interval"
      )
    )
  if any(point.values for point in points):
    handles += axis.plot([], [], "|", ms=11, color="0.45", label="one run")
  if any(point.published is not None for point in points):
    handles += axis.plot([], [], label="published", **_PUBLISHED)
  axis.legend(
    handles=handles,
    loc="upper left",
    bbox_to_anchor=(1.01, 1.0),
    fontsize=8,
    frameon=False,
  )


def draw_points(
  path: str | os.PathLike,
  title: str,
  x_label: str,
  points: Sequence[Point],
  configurations: Sequence[str],
) -> None:
  """Draws scores against what they cost; costs of many sizes by logarithm.

  Args:
    path: PNG to write.
    title: what is shown.
    x_label: the cost and its unit.
    points: a configuration each.
    configurations: all names of the report, for the colours.
  """
  figure, axis = canvas.subplots(figsize=(6.4, 4.4))
  colours = canvas.colours(configurations)
  for point in points:
    axis.errorbar(
      point.x,
      point.score,
      yerr=point.half_width,
      fmt="o",
      capsize=3,
      color=colours[point.name],
      ecolor=(colours[point.name], 0.5),  # many have the same cost
      elinewidth=1,
      label=canvas.wrap(point.name),
    )
  published = {
    (point.published_x, point.published)
    for point in points
    if point.published is not None and point.published_x is not None
  }
  if published:
    axis.plot(*zip(*sorted(published), strict=True), **_PUBLISHED)
    axis.plot([], [], label="published", **_PUBLISHED)
  costs = [point.x for point in points] + [x for x, _ in published]
  if max(costs) > 10 * min(costs):
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
  axis.set_xlabel(x_label)
  axis.set_ylabel("mIoU (%)")
  axis.grid(color="0.9")
  axis.set_axisbelow(True)
  axis.set_title(title, fontsize=10)
  axis.legend(
    loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False
  )
  canvas.save(figure, path)


def draw_class_heat_map(
  path: str | os.PathLike,
  title: str,
  task: str,
  iou: Mapping[str, Mapping[str, float]],
) -> None:
  """Draws IoU by configuration (rows) and class (columns, official colours).

  Args:
    path: PNG to write.
    title: what is shown.
    task: id of the label task; gives order and colours of the classes.
    iou: percent, by configuration and class; a class that does not occur is
      missing and stays white.
  """
  shown = set().union(*iou.values())
  classes = [c for c in labels.TASKS[task].classes if c.name in shown]
  table = np.array(
    [[row.get(c.name, np.nan) for c in classes] for row in iou.values()]
  )
  figure, axis = canvas.subplots(
    figsize=(2.2 + 0.46 * len(classes), 0.8 + 0.34 * len(iou))
  )
  image = axis.imshow(table, cmap="viridis", vmin=0, vmax=100, aspect="auto")
  axis.set_yticks(
    range(len(iou)), [canvas.wrap(name) for name in iou], fontsize=7
  )
  axis.set_xticks(
    range(len(classes)),
    [c.name for c in classes],
    rotation=45,
    ha="right",
    rotation_mode="anchor",
    fontsize=7,
  )
  axis.tick_params(axis="x", length=0, pad=16)
  axis.scatter(
    range(len(classes)),
    [0] * len(classes),
    s=60,
    marker="s",
    c=[c.colour for c in classes],
    edgecolors="0.5",
    transform=axis.get_xaxis_transform()
    + transforms.ScaledTranslation(0, -9 / 72, figure.dpi_scale_trans),
    clip_on=False,
  )
  canvas.write_values(axis, table, "{:.0f}", dark_above=60)
  axis.set_title(title, fontsize=10)
  figure.colorbar(image, ax=axis, fraction=0.03, pad=0.02, label="IoU (%)")
  canvas.save(figure, path)


def draw_curves(
  path: str | os.PathLike,
  title: str,
  panels: Mapping[str, Mapping[str, Sequence[Sequence[tuple[int, float]]]]],
) -> None:
  """Draws learning curves: single runs thin, their mean thick.

  Args:
    path: PNG to write.
    title: what is shown.
    panels: by label of the vertical axis and configuration, for each run the
      (step, value) pairs.
  """
  figure, axes = canvas.subplots(
    1, len(panels), figsize=(5.2 * len(panels), 3.8), squeeze=False
  )
  colours = canvas.colours(list(next(iter(panels.values()))))
  for axis, (label, curves) in zip(axes[0], panels.items(), strict=True):
    for name, runs in curves.items():
      for run in filter(None, runs):
        axis.plot(
          *zip(*run, strict=True), color=colours[name], lw=0.6, alpha=0.5
        )
      mean = _mean_curve(runs)
      if mean:
        axis.plot(
          *zip(*mean, strict=True), color=colours[name], label=canvas.wrap(name)
        )
    axis.set_xlabel("step")
    axis.set_ylabel(label)
    axis.grid(color="0.9")
  handles = [
    axes[0][0].plot([], [], color=colours[name], label=canvas.wrap(name))[0]
    for name in next(iter(panels.values()))
  ]
  axes[0][-1].legend(
    handles=handles,
    loc="upper left",
    bbox_to_anchor=(1.01, 1.0),
    fontsize=8,
    frameon=False,
  )
  figure.suptitle(title, fontsize=10)
  figure.subplots_adjust(wspace=0.24)  # a long legend shrinks no panel
  canvas.save(figure, path)


def _mean_curve(
  runs: Sequence[Sequence[tuple[int, float]]],
) -> list[tuple[int, float]]:
  """The mean at the steps that all runs have."""
  tables = [dict(run) for run in runs if run]
  if not tables:
    return []
  steps = sorted(set.intersection(*(set(table) for table in tables)))
  return [
    (step, float(np.mean([table[step] for table in tables]))) for step in steps
  ]
