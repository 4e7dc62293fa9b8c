"""The seven FLAIR-HUB modalities: the one table every other part reads.

Sizes, band order, types and units are those of the published data set
(arXiv 2506.07080; dataset page of IGN). Means and standard deviations are the
ones the released checkpoints were trained with; time series have none, the
network receives them as they are.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Modality:
  """One sensor product of a 102.4 m patch.

  Attributes:
    id: published name, used in CSV headers, folders, configs and batches.
    is_series: whether a file stacks several dates, time-major.
    bands: names in file order (per date for a series).
    gsd: ground sampling distance, in metres.
    pixels: side of the published patch, in pixels.
    num_dates: of a series, mean number of acquisitions of a published region
      (256,221 of Sentinel-2 and 532,696 of Sentinel-1 over 2,822 regions).
    dtype: type of the stored values.
    unit: what a value measures.
    mean: band name -> mean over the training set; empty: used as it is.
    std: band name -> standard deviation; empty: used as it is.
    derived_bands: name -> (minuend, subtrahend), computed on the device.
    default_bands: what a network sees unless a config says otherwise.
  """

  id: str
  is_series: bool
  bands: tuple[str, ...]
  gsd: float
  pixels: int
  num_dates: int | None = None
  dtype: str
  unit: str
  mean: Mapping[str, float] = dataclasses.field(default_factory=dict)
  std: Mapping[str, float] = dataclasses.field(default_factory=dict)
  derived_bands: Mapping[str, tuple[str, str]] = dataclasses.field(
    default_factory=dict
  )
  default_bands: tuple[str, ...]

  @property
  def numpy_dtype(self) -> np.dtype:
    """Type of the stored values as numpy names it."""
    return np.dtype(self.dtype)


_RGBI = ("R", "G", "B", "NIR")
_S2_BANDS = tuple("B02 B03 B04 B05 B06 B07 B08 B8A B11 B12".split())

# The order is the reference's: its first active image modality gives the grid
# and the widths on which the others are fused.
MODALITIES: Mapping[str, Modality] = {
  row.id: row
  for row in (
    Modality(
      id="AERIAL_RGBI",
      is_series=False,
      bands=_RGBI,
      gsd=0.2,
      pixels=512,
      dtype="uint8",
      unit="digital number",
      mean=dict(R=105.66, G=111.35, B=102.18, NIR=106.59),
      std=dict(R=52.23, G=45.62, B=44.30, NIR=39.78),
      default_bands=("NIR", "R", "G"),
    ),
    Modality(
      id="AERIAL-RLT_PAN",
      is_series=False,
      bands=("PAN",),
      gsd=0.4,
      pixels=256,
      dtype="uint8",
      unit="digital number (1947-1965)",
      mean=dict(PAN=125.92),
      std=dict(PAN=38.45),
      default_bands=("PAN",),
    ),
    Modality(
      id="DEM_ELEV",
      is_series=False,
      bands=("DSM", "DTM"),
      gsd=0.2,
      pixels=512,
      dtype="float32",
      unit="metre",
      # One scale for all three keeps differences of elevation comparable.
      mean=dict(DSM=311.06, DTM=311.06, NDSM=311.06),
      std=dict(DSM=537.55, DTM=537.55, NDSM=537.55),
      derived_bands=dict(NDSM=("DSM", "DTM")),
      default_bands=("DSM", "NDSM"),
    ),
    Modality(
      id="SPOT_RGBI",
      is_series=False,
      bands=_RGBI,
      gsd=1.6,
      pixels=64,
      dtype="uint16",
      unit="calibrated reflectance",
      mean=dict(R=433.26, G=508.75, B=467.77, NIR=1137.03),
      std=dict(R=312.76, G=284.61, B=226.02, NIR=543.11),
      default_bands=("NIR", "R", "G"),
    ),
    Modality(
      id="SENTINEL2_TS",
      is_series=True,
      bands=_S2_BANDS,
      gsd=10.24,
      pixels=10,
      num_dates=91,
      dtype="uint16",
      unit="reflectance x 10000",
      default_bands=_S2_BANDS,
    ),
    Modality(
      id="SENTINEL1-ASC_TS",
      is_series=True,
      bands=("VV", "VH"),
      gsd=10.24,
      pixels=10,
      num_dates=94,
      dtype="float32",
      unit="sigma0, linear",
      default_bands=("VV", "VH"),
    ),
    Modality(
      id="SENTINEL1-DESC_TS",
      is_series=True,
      bands=("VV", "VH"),
      gsd=10.24,
      pixels=10,
      num_dates=94,
      dtype="float32",
      unit="sigma0, linear",
      default_bands=("VV", "VH"),
    ),
  )
}

# Per Sentinel-2 date: probability of snow and of cloud, 0-100 (in this order).
SNOW_CLOUD_MASK = "SENTINEL2_MSK-SC"
SNOW_CLOUD_BANDS = ("snow", "cloud")
MASKED_MODALITY = "SENTINEL2_TS"

PATCH_METRES = 102.4
CRS = "EPSG:2154"
