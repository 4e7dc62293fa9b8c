"""Shared by the studies of maps: reading of bands, confusion matrices."""

import pathlib

import numpy as np
import rasterio


def read(path: pathlib.Path, band: int = 1, window=None) -> np.ndarray:
  """Returns one band, or a window of it."""
  with rasterio.open(path) as raster:
    return raster.read(band, window=window)


def confusion(truth: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
  """Returns int [count count] of the pixels that have a class in both."""
  is_valid = (truth < count) & (classes < count)
  pairs = truth[is_valid].astype(int) * count + classes[is_valid]
  return np.bincount(pairs, minlength=count**2).reshape(count, count)
