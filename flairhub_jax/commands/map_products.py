"""Flags of the outputs of a map, and what they ask for."""

import argparse
import pathlib
from collections.abc import Mapping

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import (
  area,
  class_areas,
  layers,
  layout,
  products,
  region,
  sieve,
)
from flairhub_jax.schema import LabelTask


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags."""
  parser.add_argument(
    "--probabilities",
    nargs="+",
    default=[],
    metavar="CLASS",
    help="also write the probabilities of these classes, or of all",
  )
  parser.add_argument(
    "--probability-dtype",
    choices=tuple(layers.NO_DATA),
    default="uint8",
    help="uint8: steps of 1/250; float32: as computed, four times the disk"
    " space (float16 needs GDAL 3.11, which rasterio 1.4 lacks)",
  )
  parser.add_argument(
    "--layers",
    nargs="+",
    choices=tuple(layers.MEASURES),
    default=[],
    help="also write the largest probability of each pixel, the entropy of its"
    " probabilities (0-1), or the largest minus the second one",
  )
  parser.add_argument(
    "--min-area",
    nargs="+",
    default=[],
    metavar="M2",
    help="minimum mapping unit: areas of one class below so many square metres"
    " become their neighbours'; CLASS=M2 for one class",
  )
  parser.add_argument(
    "--polygons",
    metavar="FILE.gpkg",
    help="also write polygons, with borders simplified by about a pixel",
  )
  parser.add_argument(
    "--areas",
    metavar="FILE",
    help="vector file of zones: also write the areas of the classes in each",
  )
  parser.add_argument(
    "--scores",
    metavar="SCORES.json",
    help="scores of `evaluate` on a sample of this map: adjust the areas of"
    " the classes by its confusion matrix",
  )


def read_layers(
  args: argparse.Namespace, tasks: Mapping[str, LabelTask]
) -> layers.Layers:
  """Layers of a map."""
  return layers.Layers(
    region.class_indices(tasks, args.probabilities),
    tuple(name for name in layers.MEASURES if name in args.layers),
    args.probability_dtype,
  )


def read_min_areas(
  args: argparse.Namespace,
  plan: layout.Layout,
  tasks: Mapping[str, LabelTask],
) -> dict[str, tuple[float, ...]]:
  """Smallest areas of the classes, by task.

  Raises:
    InputError: unknown classes, or a map without metres.
  """
  min_areas = sieve.parse(args.min_area, tasks)
  if args.min_area and plan.grid.crs is None:
    raise InputError("--min-area", "rasters with a CRS", "none")
  return min_areas


def read_products(
  args: argparse.Namespace, crs: str | None, tasks: Mapping[str, LabelTask]
) -> products.Products:
  """What is made of the finished map.

  Raises:
    InputError: a file that cannot be read.
  """
  scores = args.scores and pathlib.Path(args.scores)
  return products.Products(
    polygons=pathlib.Path(args.polygons) if args.polygons else None,
    zones=area.read_features(args.areas, crs) if args.areas else (),
    confusion=class_areas.read_confusion(scores, tasks) if scores else {},
  )
