"""Reflectance and backscatter of land covers and crops over the year.

Spectra are rounded textbook values (reflectance x 10000 of the Sentinel-2
bands); phenology follows the French crop calendar. Wheat and barley have the
same spectrum and differ only in radar, as do maize and sunflower; deciduous and
coniferous woods differ in winter, plowed and bare soil only in roughness.
"""

import numpy as np
from jaxtyping import Float, Num

from flairhub_jax.data.simulation.land_use import BACKGROUND, cosia, lpis

# B02 B03 B04 B05 B06 B07 B08 B8A B11 B12
_SOIL = np.array([800, 1050, 1400, 1700, 1850, 1950, 2050, 2150, 2800, 2500.0])
_LEAF = np.array([250, 550, 300, 900, 2400, 3000, 3300, 3400, 1700, 800.0])
_STRAW = np.array([700, 1000, 1300, 1600, 1900, 2100, 2300, 2400, 2700, 2000.0])
_NEEDLE = np.array([180, 350, 230, 500, 1300, 1600, 1750, 1800, 900, 450.0])
_BLOSSOM = np.array(
  [450, 1500, 1350, 1900, 3000, 3300, 3500, 3500, 1800, 900.0]
)
_STONE = np.array([900, 1000, 1050, 1100, 1150, 1200, 1250, 1300, 1400, 1350.0])

_CONSTANT = {
  "building": (1000, 1150, 1400, 1500, 1550, 1600, 1650, 1700, 1800, 1700),
  "greenhouse": (2200, 2300, 2300, 2400, 2700, 2800, 2900, 2900, 2300, 2000),
  "swimming pool": (1300, 1500, 900, 700, 500, 450, 400, 350, 200, 150),
  "impervious surface": tuple(_STONE),
  "pervious surface": tuple(_SOIL + 0.3 * _STONE),
  "bare soil": tuple(_SOIL),
  "water": (400, 350, 250, 180, 150, 140, 120, 110, 60, 40),
  "snow": (8500, 8600, 8500, 8400, 8300, 8200, 8000, 7900, 900, 700),
}  # fmt: skip
CLOUD = np.array([6500, 6300, 6200, 6300, 6500, 6600, 6700, 6600, 4500, 3300.0])
SNOW = np.array(_CONSTANT["snow"], float)

# Start and end of the season (day of year), and greenness, 0 to 1, outside and
# inside of it.
_SEASON = {
  "wheat": (75, 178, 0.15, 0.9),
  "barley": (75, 178, 0.15, 0.9),
  "other cereals": (90, 195, 0.15, 0.75),
  "rapeseed": (60, 165, 0.3, 0.95),
  "maize": (165, 262, 0.03, 0.92),
  "sunflower": (165, 262, 0.03, 0.92),
  "soy": (178, 280, 0.03, 0.8),
  "beetroots": (145, 300, 0.03, 0.9),
  "potatoes": (140, 235, 0.03, 0.85),
  "fodder legumes": (60, 310, 0.5, 0.85),
  "grasses": (75, 300, 0.4, 0.7),
  "fruit orchards": (100, 295, 0.3, 0.75),
  "vineyard": (125, 285, 0.08, 0.5),
}
_SEASON_OF_COVER = {
  "herbaceous vegetation": (80, 270, 0.3, 0.55),
  "agricultural land": (90, 195, 0.15, 0.75),
  "plowed land": (165, 262, 0.03, 0.9),
  "vineyard": (125, 285, 0.08, 0.5),
  "deciduous": (108, 300, 0.25, 0.92),
  "coniferous": (0, 400, 0.9, 0.9),
  "brushwood": (110, 290, 0.35, 0.7),
  "clear cut": (100, 280, 0.1, 0.3),
  "ligneous": (108, 300, 0.25, 0.8),
  "mixed": (108, 300, 0.55, 0.9),
}
_NAME_OF_COVER = {cosia(name): name for name in (*_CONSTANT, *_SEASON_OF_COVER)}
_NAME_OF_CROP = {lpis(name): name for name in _SEASON}


def greenness(
  cover: int, crop: int, days: Num[np.ndarray, "t"]
) -> Float[np.ndarray, "t"]:
  """Fraction of green leaves, 0-1, by day of the year."""
  name = _NAME_OF_COVER.get(cover)
  # Trees in orchards are trees; fields have the phenology of their crop.
  if crop != BACKGROUND and name != "deciduous" and crop in _NAME_OF_CROP:
    season = _SEASON[_NAME_OF_CROP[crop]]
  elif name in _SEASON_OF_COVER:
    season = _SEASON_OF_COVER[name]
  else:
    return np.zeros(len(days))
  start, end, low, high = season
  with np.errstate(over="ignore"):
    up = 1 / (1 + np.exp(-(days - start) / 8))
    down = 1 / (1 + np.exp(-(days - end) / 7))
  return low + (high - low) * np.clip(up - down, 0, 1)


def reflectance(
  cover: int, crop: int, days: Num[np.ndarray, "t"]
) -> Float[np.ndarray, "t 10"]:
  """Surface reflectance x 10000 of the Sentinel-2 bands, by day of year."""
  name = _NAME_OF_COVER.get(cover)
  if name in _CONSTANT:
    return np.tile(np.array(_CONSTANT[name], float), (len(days), 1))
  green = greenness(cover, crop, days)[:, None]
  leaf = _NEEDLE if name == "coniferous" else _LEAF
  if name == "mixed":
    leaf = (_NEEDLE + _LEAF) / 2
  crop_name = _NAME_OF_CROP.get(crop)
  # Below ripe cereals and rapeseed there is straw, elsewhere soil.
  is_ripe = (days > 150) & (days < 230)
  ripens = crop_name in ("wheat", "barley", "other cereals", "rapeseed")
  ground = np.where((is_ripe & ripens)[:, None], _STRAW, _SOIL)
  if name in ("herbaceous vegetation", "deciduous", "brushwood", "ligneous"):
    ground = np.broadcast_to(0.6 * _STRAW + 0.2 * _SOIL, ground.shape)
  mixed = green * leaf + (1 - green) * ground
  if crop_name == "rapeseed":
    bloom = 0.8 * np.exp(-(((days - 112) / 9) ** 2))[:, None]
    mixed = (1 - bloom) * mixed + bloom * _BLOSSOM
  return mixed


# Backscatter in dB (VV, VH) of surfaces without seasons, woods included.
_BACKSCATTER = {
  "building": (-3.5, -11.0),
  "greenhouse": (-7.0, -15.0),
  "swimming pool": (-14.0, -22.0),
  "impervious surface": (-14.5, -23.0),
  "pervious surface": (-12.5, -20.5),
  "bare soil": (-15.0, -23.5),
  "water": (-20.0, -27.0),
  "snow": (-15.5, -23.0),
  "deciduous": (-9.0, -14.5),
  "coniferous": (-9.5, -15.0),
  "mixed": (-9.2, -14.7),
  "ligneous": (-10.0, -16.0),
  "brushwood": (-11.0, -17.5),
  "clear cut": (-11.5, -19.0),
}
# Effect of a full canopy in dB (VV, VH): vertical stems of wheat absorb VV,
# barley's heads scatter VH, broad leaves of sunflower scatter both.
_CANOPY = {
  "wheat": (-4.5, -1.0),
  "barley": (-1.0, 3.5),
  "other cereals": (-2.5, 0.5),
  "rapeseed": (2.5, 5.5),
  "maize": (1.0, 3.0),
  "sunflower": (4.0, 6.0),
  "soy": (0.5, 2.0),
  "beetroots": (2.5, 4.0),
  "potatoes": (3.0, 5.0),
  "fodder legumes": (0.0, 2.5),
  "grasses": (-0.5, 1.0),
  "vineyard": (1.5, 2.0),
  "fruit orchards": (1.5, 3.0),
}


def backscatter(
  cover: int, crop: int, days: Num[np.ndarray, "t"]
) -> Float[np.ndarray, "t 2"]:
  """Sigma0 of VV and VH in dB, by day of year."""
  name = _NAME_OF_COVER.get(cover)
  if name in _BACKSCATTER:
    base = np.tile(np.array(_BACKSCATTER[name]), (len(days), 1))
    if name == "deciduous":  # leafless crowns scatter less VH
      base[:, 1] -= 1.5 * (1 - greenness(cover, crop, days))
    return base
  # Bare fields; plowed land is rougher.
  bare = (-9.0, -17.0) if name == "plowed land" else (-12.0, -20.0)
  canopy = np.array(_CANOPY.get(_NAME_OF_CROP.get(crop), (0.0, 1.5)))
  return np.array(bare) + greenness(cover, crop, days)[:, None] * canopy
