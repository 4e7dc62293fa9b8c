"""Simulated pixel values of each published sensor, as stored in its files.

Functions simulate whole regions.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

from flairhub_jax.data.simulation import spectra
from flairhub_jax.data.simulation.land_use import cosia
from flairhub_jax.data.simulation.scene import Scene, smooth_noise
from flairhub_jax.flair_hub import FLAIR_HUB

_NUM_CROPS = FLAIR_HUB.tasks["ALL_LABEL-LPIS"].num_classes

# Digital numbers of R, G, B, NIR, standard deviation of tone and of texture.
# Some classes have the same colour on purpose, so that one image cannot
# separate them: half of the roofs and asphalt, woods and brushwood, plowed and
# bare soil, all crops.
_WOOD = (78, 95, 70, 135, 8, 6)
_EARTH = (158, 132, 105, 118, 18, 6)
_AERIAL = {
  "building": (178, 112, 85, 110, 22, 4),
  "greenhouse": (205, 212, 216, 170, 12, 5),
  "swimming pool": (95, 185, 205, 45, 5, 4),
  "impervious surface": (126, 124, 121, 100, 18, 5),
  "pervious surface": _EARTH,
  "bare soil": _EARTH,
  "water": (48, 68, 74, 28, 6, 3),
  "snow": (238, 241, 246, 225, 4, 4),
  "herbaceous vegetation": (112, 136, 88, 172, 14, 7),
  "agricultural land": (134, 140, 92, 158, 24, 6),
  "plowed land": _EARTH,
  "vineyard": (128, 124, 92, 132, 12, 8),
  "deciduous": _WOOD,
  "coniferous": _WOOD,
  "brushwood": _WOOD,
  "clear cut": (140, 122, 98, 120, 10, 14),
  "ligneous": (90, 106, 74, 140, 8, 8),
  "mixed": _WOOD,
  "undefined": (120, 120, 120, 120, 10, 10),
}
_AERIAL_TABLE = np.array(
  [
    row
    for _, row in sorted((cosia(name), row) for name, row in _AERIAL.items())
  ],
  np.float32,
)


@dataclasses.dataclass(frozen=True)
class Atmosphere:
  """Illumination and camera settings of a flight.

  Attributes:
    gain: of the digital numbers, R, G, B, NIR.
    offset: likewise.
    sun_azimuth: degrees from north, clockwise.
    sun_elevation: degrees.
  """

  gain: tuple[float, ...]
  offset: tuple[float, ...]
  sun_azimuth: float
  sun_elevation: float


def draw_atmosphere(rng: np.random.Generator) -> Atmosphere:
  """Draws the conditions of a flight over a domain."""
  return Atmosphere(
    gain=tuple(rng.uniform(0.88, 1.1) * rng.uniform(0.97, 1.03, 4)),
    offset=tuple(rng.uniform(-6, 6) + rng.uniform(-3, 3, 4)),
    sun_azimuth=rng.uniform(120, 230),
    sun_elevation=rng.uniform(40, 60),
  )


def _light(scene: Scene, air: Atmosphere) -> Float[np.ndarray, "h w"]:
  """Relative illumination from slopes and cast shadows."""
  surface = scene.height + (scene.terrain - scene.terrain.min())
  azimuth = np.deg2rad(air.sun_azimuth)
  east, south = np.sin(azimuth), -np.cos(azimuth)
  slope_y, slope_x = np.gradient(surface, scene.gsd)
  shade = 1 - 0.22 * np.clip(slope_x * east + slope_y * south, -1.5, 1.5)
  climb = np.tan(np.deg2rad(air.sun_elevation)) * scene.gsd
  shadow = np.zeros(surface.shape, bool)
  reach = int(min(22 / climb, 12 / scene.gsd))
  stride = max(1, round(0.8 / scene.gsd))
  for step in range(stride, reach + 1, stride):
    rows, columns = round(south * step), round(east * step)
    towards_sun = np.roll(surface, (-rows, -columns), (0, 1))
    shadow |= towards_sun > surface + climb * step
  return np.where(shadow, 0.55, shade).astype(np.float32)


def aerial(
  rng: np.random.Generator, scene: Scene, air: Atmosphere
) -> UInt8[np.ndarray, "h w 4"]:
  """AERIAL_RGBI: digital numbers of R, G, B, NIR."""
  table = _AERIAL_TABLE[scene.cover]
  grey = _AERIAL_TABLE[cosia("impervious surface")]
  table = np.where(scene.is_grey[..., None], grey, table)
  per_pixel = 1 / scene.gsd
  texture = rng.standard_normal(scene.cover.shape).astype(np.float32)
  texture += smooth_noise(rng, scene.cover.shape, 1.2 * per_pixel)
  brightness = table[..., 4] * scene.tone + table[..., 5] * texture
  brightness += 9 * scene.rows
  # Dry and lush spots affect the bands differently.
  lush = 5 * smooth_noise(rng, scene.cover.shape, 9 * per_pixel)
  values = table[..., :4] + brightness[..., None]
  values += lush[..., None] * np.array([-1, 0.3, -0.5, 1.2], np.float32)
  values *= _light(scene, air)[..., None]
  values = values * np.array(air.gain, np.float32)
  values += np.array(air.offset, np.float32)
  values += 2 * rng.standard_normal(values.shape, np.float32)
  return np.clip(values, 1, 255).astype(np.uint8)


def elevation(
  rng: np.random.Generator, scene: Scene
) -> Float[np.ndarray, "h w 2"]:
  """DEM_ELEV: surface and terrain in metres."""
  noise = 0.12 * rng.standard_normal(scene.cover.shape).astype(np.float32)
  surface = scene.terrain + scene.height + noise
  return np.stack([surface, scene.terrain], -1).astype(np.float32)


def _average(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Area mean of [h w …] on a grid of `size`, which need not divide h, w."""
  for axis in (0, 1):
    length, count = values.shape[axis], size[axis]
    # Differences of the interpolated cumulative sum at the edges of the coarse
    # pixels. A matrix product would round, and so the files would differ, by
    # the number of cores.
    total = np.cumsum(values, axis, dtype=np.float64)
    zero = np.zeros_like(np.take(total, [0], axis))
    total = np.concatenate([zero, total], axis)
    edges = np.linspace(0, length, count + 1)
    below = np.minimum(edges.astype(int), length - 1)
    part = (edges - below).reshape(
      [-1 if n == axis else 1 for n in range(values.ndim)]
    )
    low, high = np.take(total, below, axis), np.take(total, below + 1, axis)
    values = np.diff(low + part * (high - low), axis=axis) * (count / length)
  return values.astype(np.float32)


def _signatures(scene: Scene) -> tuple[list[tuple[int, int]], np.ndarray]:
  """Pairs of cover and crop that occur, and the index of each pixel's pair."""
  code = scene.cover.astype(np.int32) * _NUM_CROPS + scene.crop
  codes, inverse = np.unique(code, return_inverse=True)
  pairs = [divmod(int(c), _NUM_CROPS) for c in codes]
  return pairs, inverse.reshape(code.shape)


def cover_fractions(
  scene: Scene, size: tuple[int, int]
) -> tuple[list[tuple[int, int]], Float[np.ndarray, "h w n"]]:
  """Pairs of cover and crop, and the area fraction of each in coarse pixels."""
  pairs, number = _signatures(scene)
  fractions = [
    _average((number == n).astype(np.float32), size) for n in range(len(pairs))
  ]
  return pairs, np.stack(fractions, -1)


def spot(
  rng: np.random.Generator, scene: Scene, size: tuple[int, int]
) -> UInt16[np.ndarray, "h w 4"]:
  """SPOT_RGBI: calibrated reflectance of R, G, B, NIR in early summer."""
  pairs, number = _signatures(scene)
  rgbi = np.array([2, 1, 0, 6])
  table = np.stack(
    [spectra.reflectance(*pair, np.array([170.0]))[0, rgbi] for pair in pairs]
  )
  values = _average(0.5 * table[number].astype(np.float32), size)
  values *= 1 + 0.04 * _average(scene.tone, size)[..., None]
  values *= 1 + 0.02 * rng.standard_normal(values.shape, np.float32)
  return np.clip(values, 1, 65535).astype(np.uint16)


def historical(
  rng: np.random.Generator, scene: Scene, size: tuple[int, int]
) -> UInt8[np.ndarray, "h w 1"]:
  """AERIAL-RLT_PAN: the region around 1955, on film."""
  grey = _AERIAL_TABLE[scene.old_cover][..., :3].mean(-1)
  # The film is hardly sensitive to near infrared, so woods are dark.
  light = 1 - 0.3 * np.tanh(scene.height / 8)
  grey = np.where(scene.old_cover == scene.cover, grey * light, grey)
  # Smaller fields than today: narrow strips of different tone.
  y, x = np.indices(scene.cover.shape) * scene.gsd
  angle = rng.uniform(0, np.pi)
  across = np.cos(angle) * x + np.sin(angle) * y
  strip = ((across - across.min()) / 16).astype(int)
  is_field = scene.old_cover == cosia("agricultural land")
  tones = rng.uniform(-30, 30, strip.max() + 1)
  grey = grey + np.where(is_field, tones[strip], 0)
  image = _average(grey.astype(np.float32), size)
  grain = 6 * rng.standard_normal(size) + 5 * smooth_noise(rng, size, 1.0)
  return np.clip(image + grain, 0, 255).astype(np.uint8)[..., None]


def sentinel2(
  rng: np.random.Generator,
  pairs: list[tuple[int, int]],
  fractions: Float[np.ndarray, "h w n"],
  days: Int[np.ndarray, "t"],
  altitude: float,
) -> tuple[UInt16[np.ndarray, "t h w 10"], UInt8[np.ndarray, "t h w 2"]]:
  """SENTINEL2_TS and SENTINEL2_MSK-SC (snow, cloud: 0-100).

  About half of the dates are clear; others have clouds or, in winter, snow.
  """
  # Phenology is earlier or later by region.
  shift = rng.normal(0, 4)
  table = np.stack(
    [spectra.reflectance(*pair, days + shift) for pair in pairs], 1
  )
  ground = np.einsum("hwn,tnb->thwb", fractions, table.astype(np.float32))
  size = fractions.shape[:2]
  ground *= 1 + 0.03 * rng.standard_normal((len(days), 1, 1, 10))
  snow, cloud = np.zeros((2, len(days), *size))
  for t, day in enumerate(days):
    in_winter = min(day, 365 - day) < 60
    if in_winter and rng.random() < 0.15 + 0.5 * (altitude > 900):
      snow[t] = np.clip(0.7 + 0.4 * smooth_noise(rng, size, 3.0), 0, 1)
    sky = rng.random()
    if sky > 0.5:
      cover = -1.0 + 4.0 * (sky - 0.5) / 0.5
      cloud[t] = np.clip(cover + smooth_noise(rng, size, 4.0), 0, 1)
  values = snow[..., None] * spectra.SNOW + (1 - snow[..., None]) * ground
  values = cloud[..., None] * spectra.CLOUD + (1 - cloud[..., None]) * values
  values *= 1 + 0.015 * rng.standard_normal(values.shape)
  mask = np.stack([snow, cloud], -1)
  return (
    np.clip(values, 1, 16000).astype(np.uint16),
    np.round(100 * mask).astype(np.uint8),
  )


def sentinel1(
  rng: np.random.Generator,
  pairs: list[tuple[int, int]],
  fractions: Float[np.ndarray, "h w n"],
  days: Int[np.ndarray, "t"],
  incidence: float,
) -> Float[np.ndarray, "t h w 2"]:
  """SENTINEL1-…_TS: linear sigma0 of VV and VH, with speckle.

  `incidence` is the offset of the orbit in dB; a few pixels of a few dates are
  NaN, as in real products.
  """
  table = np.stack([spectra.backscatter(*pair, days) for pair in pairs], 1)
  wet = 0.8 * rng.standard_normal((len(days), 1, 1))  # soil moisture
  linear = 10 ** ((table + wet + incidence) / 10)
  values = np.einsum("hwn,tnb->thwb", fractions, linear)
  looks = 6.0
  values *= rng.gamma(looks, 1 / looks, values.shape)
  values = values.astype(np.float32)
  for t in np.flatnonzero(rng.random(len(days)) < 0.02):
    rows = rng.integers(0, values.shape[1], 2)
    columns = rng.integers(0, values.shape[2], 2)
    values[t, rows, columns] = np.nan
  return values
