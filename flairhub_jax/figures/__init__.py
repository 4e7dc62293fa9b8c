"""Figures: class maps, confusion matrices, comparisons of runs."""

from flairhub_jax.figures.canvas import colours
from flairhub_jax.figures.comparison import (
  draw_class_heat_map,
  draw_curves,
  draw_points,
  draw_scores,
)
from flairhub_jax.figures.maps import composite, draw_confusion, draw_patches
from flairhub_jax.figures.subsets import draw_subsets
from flairhub_jax.figures.usage import draw_usage, draw_weight_maps

__all__ = [
  "colours",
  "composite",
  "draw_class_heat_map",
  "draw_confusion",
  "draw_curves",
  "draw_patches",
  "draw_points",
  "draw_scores",
  "draw_subsets",
  "draw_usage",
  "draw_weight_maps",
]
