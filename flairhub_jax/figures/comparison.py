"""Figures that compare configurations: scores, classes, curves, costs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib import ticker, transforms

from flairhub_jax.figures import canvas
from flairhub_jax.schema import LabelTask

if TYPE_CHECKING:
  import pandas as pd

_PUBLISHED = dict(
  marker="D",
  color="black",
  markerfacecolor="none",
  ls="none",
  label="published",
)


def draw_scores(
  path: str | os.PathLike,
  title: str,
  summary: pd.DataFrame,
  values: pd.DataFrame,
  colours: Mapping[str, Any],
) -> None:
  """Draws mIoU by configuration: mean, interval, runs, published score.

  Args:
    path: PNG to write.
    title: of the figure.
    summary: by configuration, from top to bottom, `mean`, `half_width` and
      `published`, percent; NaN where there is none.
    values: `configuration` and `value` of the single runs.
    colours: by name of configuration.
  """
  figure, axis = canvas.subplots(figsize=(7.5, 1.3 + 0.42 * len(summary)))
  y = {name: i for i, name in enumerate(summary.index)}
  for name, row in summary.iterrows():
    axis.errorbar(
      row["mean"],
      y[name],
      xerr=row["half_width"],
      fmt="o",
      capsize=4,
      color=colours[name],
      zorder=3,
    )
  # Entries of the legend for the markers in use.
  axis.plot([], [], "o", color="0.3", label="mean")
  several = summary.index[summary["half_width"].notna()]
  if len(several):
    values = values[values["configuration"].isin(several)]
    axis.plot([], [], color="0.3", label="95 % interval")
    axis.plot(
      values["value"],
      [y[name] for name in values["configuration"]],
      "|",
      ms=11,
      color="0.45",
      label="one run",
    )
  published = summary["published"].dropna()
  if len(published):
    axis.plot(published, [y[name] for name in published.index], **_PUBLISHED)
  axis.set_yticks(range(len(y)), [canvas.wrap(name) for name in y])
  axis.tick_params(axis="y", labelsize=8)
  axis.set_ylim(len(y) - 0.4, -0.6)
  axis.set_xlabel("mIoU (%)")
  axis.grid(axis="x", color="0.9")
  axis.set_title(title, fontsize=10)
  canvas.add_legend(axis)
  canvas.save(figure, path)


def draw_points(
  path: str | os.PathLike,
  title: str,
  x_label: str,
  points: pd.DataFrame,
  colours: Mapping[str, Any],
) -> None:
  """Draws scores against costs, on a logarithmic axis for a wide range.

  Args:
    path: PNG to write.
    title: of the figure.
    x_label: the cost and its unit.
    points: by configuration, the cost `x` and the score as `mean` and
      `half_width`; `published_x` and `published` for the same inputs, or NaN.
    colours: by name of configuration.
  """
  figure, axis = canvas.subplots(figsize=(6.4, 4.4))
  for name, row in points.iterrows():
    axis.errorbar(
      row["x"],
      row["mean"],
      yerr=row["half_width"],
      fmt="o",
      capsize=3,
      color=colours[name],
      ecolor=(colours[name], 0.5),  # bars of equal cost overlap
      elinewidth=1,
      label=canvas.wrap(name),
    )
  published = points[["published_x", "published"]].dropna().drop_duplicates()
  if len(published):
    axis.plot(published["published_x"], published["published"], **_PUBLISHED)
  costs = [*points["x"], *published["published_x"]]
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
  canvas.add_legend(axis)
  canvas.save(figure, path)


def draw_class_heat_map(
  path: str | os.PathLike, title: str, task: LabelTask, iou: pd.DataFrame
) -> None:
  """Draws IoU by configuration (rows) and class (columns, official colours).

  Args:
    path: PNG to write.
    title: of the figure.
    task: with order and colours of the classes.
    iou: percent, by configuration and class; NaN is white, and classes without
      a column are not drawn.
  """
  classes = [c for c in task.classes if c.name in iou]
  table = iou[[c.name for c in classes]].to_numpy()
  figure, axis = canvas.subplots(
    figsize=(2.2 + 0.46 * len(classes), 0.8 + 0.34 * len(iou))
  )
  image = axis.imshow(table, cmap="viridis", vmin=0, vmax=100, aspect="auto")
  axis.set_yticks(
    range(len(iou)), [canvas.wrap(name) for name in iou.index], fontsize=7
  )
  canvas.name_columns(axis, [c.name for c in classes], pad=16)
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
  curves: pd.DataFrame,
  colours: Mapping[str, Any],
) -> None:
  """Draws learning curves: single runs thin, their mean thick.

  Args:
    path: PNG to write.
    title: of the figure.
    curves: `value` at a `step`, by `panel` (label of the vertical axis),
      `configuration` and `seed`.
    colours: by name of configuration.
  """
  panels = curves.groupby("panel", sort=False)
  figure, axes = canvas.subplots(
    1, panels.ngroups, figsize=(5.2 * panels.ngroups, 3.8), squeeze=False
  )
  for axis, (label, panel) in zip(axes[0], panels, strict=True):
    for name, own in panel.groupby("configuration", sort=False):
      # A continued run may have recorded a step twice.
      runs = own.pivot_table(
        index="step", columns="seed", values="value", aggfunc="last"
      )
      for _, run in runs.items():
        axis.plot(run.dropna(), color=colours[name], lw=0.6, alpha=0.5)
      axis.plot(runs.dropna().mean(axis="columns"), color=colours[name])
    axis.set_xlabel("step")
    axis.set_ylabel(label)
    axis.grid(color="0.9")
  handles = [
    axes[0][0].plot([], [], color=colour, label=canvas.wrap(name))[0]
    for name, colour in colours.items()
  ]
  canvas.add_legend(axes[0][-1], handles=handles)
  figure.suptitle(title, fontsize=10)
  # Instead of a layout engine, which shrinks panels for a long legend.
  figure.subplots_adjust(wspace=0.24)
  canvas.save(figure, path)
