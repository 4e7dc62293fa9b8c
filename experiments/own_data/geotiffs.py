"""GeoTIFFs of the samples: found in the published layout, read and written."""

import pathlib
import warnings

import numpy as np
import rasterio
import rasterio.errors

warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)


def read(sample: pathlib.Path, product: str, patch: str) -> np.ndarray:
  """Returns the bands [c h w] of a product of a patch."""
  domain, roi, number = patch.split("_")
  name = f"{domain}_{product}_{roi}_{number}.tif"
  with rasterio.open(sample / f"{domain}_{product}" / roi / name) as raster:
    return raster.read()


def write(path: pathlib.Path, values: np.ndarray) -> None:
  """Writes bands [c h w] without a georeference, as the samples have none."""
  count, height, width = values.shape
  with rasterio.open(
    path,
    "w",
    driver="GTiff",
    dtype=values.dtype,
    count=count,
    height=height,
    width=width,
  ) as raster:
    raster.write(values)
