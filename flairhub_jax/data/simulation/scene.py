"""The landscape of a simulated region: land cover, crops, heights.

A region is one landscape that is cut into patches afterwards, so that fields
and roads continue across patches. Lengths are in metres.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from flairhub_jax.data.simulation.land_use import KINDS, THEMES, cosia, lpis


@dataclasses.dataclass
class Scene:
  """A landscape on a grid; all arrays are [h w].

  Attributes:
    gsd: of the grid.
    cover: uint8, COSIA class.
    crop: uint8, LPIS class.
    terrain: float32, elevation of the ground.
    height: float32, of vegetation and buildings above the ground.
    tone: float32, about -1 to 1, relative brightness of the object.
    rows: float32, -1 to 1, planted rows.
    is_grey: bool, roofs with the colour of asphalt.
    old_cover: uint8, COSIA class around 1955.
  """

  gsd: float
  cover: UInt8[np.ndarray, "h w"]
  crop: UInt8[np.ndarray, "h w"]
  terrain: Float[np.ndarray, "h w"]
  height: Float[np.ndarray, "h w"]
  tone: Float[np.ndarray, "h w"]
  rows: Float[np.ndarray, "h w"]
  is_grey: np.ndarray
  old_cover: UInt8[np.ndarray, "h w"]


def smooth_noise(
  rng: np.random.Generator, shape: tuple[int, int], scale: float
) -> Float[np.ndarray, "h w"]:
  """Returns standardised noise with a correlation length of `scale` pixels."""
  frequency_y = np.fft.fftfreq(shape[0])[:, None]
  frequency_x = np.fft.rfftfreq(shape[1])[None]
  squared = frequency_y**2 + frequency_x**2
  spectrum = np.fft.rfft2(rng.standard_normal(shape, np.float32))
  spectrum *= np.exp(-2 * (np.pi * scale) ** 2 * squared)
  noise = np.fft.irfft2(spectrum, shape)
  return (noise / max(noise.std(), 1e-9)).astype(np.float32)


def build_scene(
  rng: np.random.Generator,
  shape: tuple[int, int],
  gsd: float,
  theme: str,
  altitude: float,
) -> Scene:
  """Draws a landscape.

  Args:
    rng: of all random numbers.
    shape: (h, w) of the region in pixels.
    gsd: of the grid.
    theme: U urban, A agricultural, F forest, N natural.
    altitude: mean elevation; there is snow above 1,400 m.
  """
  y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) * gsd
  per_pixel = 1 / gsd
  terrain = altitude + 0.01 * altitude * smooth_noise(
    rng, shape, 90 * per_pixel
  )
  wobble = [2.0 * smooth_noise(rng, shape, 12 * per_pixel) for _ in "yx"]
  owner, margin = _parcels(rng, y + wobble[0], x + wobble[1], 62.0)
  weights = THEMES[theme]
  kinds = rng.choice(
    list(weights),
    size=int(owner.max()) + 1,
    p=np.array(list(weights.values())) / sum(weights.values()),
  )
  scene = _paint_parcels(rng, owner, kinds, y, x, terrain, gsd)
  _plant_orchards(rng, scene, kinds == "orchard", owner, y, x)
  _plant_hedges(rng, scene, owner, margin)
  _lay_lines(rng, scene, y, x)
  _build_villages(rng, scene, (kinds == "village")[owner])
  if theme == "A":
    _build_greenhouses(rng, scene)
  if altitude > 1400:
    noise = smooth_noise(rng, shape, 25 * per_pixel)
    _set(scene, noise > 0.1, cover="snow", height=0.3)
  scene.old_cover = _historical_cover(scene, owner, kinds)
  return scene


def _parcels(
  rng: np.random.Generator, y: np.ndarray, x: np.ndarray, size: float
) -> tuple[np.ndarray, np.ndarray]:
  """Index of the elongated parcel of each pixel, and distance to the next."""
  angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.5, 0.8)
  u = (np.cos(angle) * x + np.sin(angle) * y) * stretch
  v = (-np.sin(angle) * x + np.cos(angle) * y) / stretch
  low, high = (
    np.array([g.min() for g in (u, v)]),
    np.array([u.max(), v.max()]),
  )
  count = max(4, int(np.prod(high - low + size) / size**2))
  points = rng.uniform(low - size / 2, high + size / 2, (count, 2))
  nearest = np.full(y.shape, np.inf, np.float32)
  second = np.full(y.shape, np.inf, np.float32)
  owner = np.zeros(y.shape, np.int32)
  block = 128
  for top in range(0, y.shape[0], block):
    for left in range(0, y.shape[1], block):
      part = np.s_[top : top + block, left : left + block]
      _assign(
        u[part], v[part], points, owner[part], nearest[part], second[part]
      )
  return owner, second - nearest


def _assign(
  u: np.ndarray,
  v: np.ndarray,
  points: np.ndarray,
  owner: np.ndarray,
  nearest: np.ndarray,
  second: np.ndarray,
) -> None:
  """Sets index and distances of the nearest points for a block of pixels."""
  points = points.astype(np.float32)
  middle = np.array([u.mean(), v.mean()], np.float32)
  radius = np.hypot(u - middle[0], v - middle[1]).max()
  from_middle = np.hypot(*(points - middle).T)
  # A point farther than the second nearest to the middle plus the block's
  # diameter is neither nearest nor second nearest anywhere in the block.
  reach = np.partition(from_middle, 1)[1] + 2 * radius + 1
  for number in np.flatnonzero(from_middle <= reach):
    distance = np.hypot(u - points[number, 0], v - points[number, 1])
    closer = distance < nearest
    second[...] = np.where(closer, nearest, np.minimum(second, distance))
    owner[closer] = number
    nearest[...] = np.where(closer, distance, nearest)


def _paint_parcels(
  rng: np.random.Generator,
  owner: np.ndarray,
  kinds: np.ndarray,
  y: np.ndarray,
  x: np.ndarray,
  terrain: np.ndarray,
  gsd: float,
) -> Scene:
  rows = [KINDS[kind] for kind in kinds]
  spacing = np.array([row.row_spacing for row in rows], np.float32)[owner]
  angle = rng.uniform(0, np.pi, len(kinds)).astype(np.float32)[owner]
  phase = (np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi)
  # Crowns are about 5 m wide.
  crowns = smooth_noise(rng, y.shape, 1.3 / gsd)
  height = np.array([row.height for row in rows], np.float32)[owner]
  height += (
    np.array([row.roughness for row in rows], np.float32)[owner] * crowns
  )
  return Scene(
    gsd=gsd,
    cover=np.array([cosia(r.cover) for r in rows], np.uint8)[owner],
    crop=np.array([lpis(r.crop) for r in rows], np.uint8)[owner],
    terrain=terrain.astype(np.float32),
    height=np.maximum(height, 0),
    tone=rng.uniform(-1, 1, len(kinds)).astype(np.float32)[owner],
    rows=np.where(
      spacing > 0, np.sin(phase / np.maximum(spacing, 1)), 0
    ).astype(np.float32),
    is_grey=np.zeros(y.shape, bool),
    old_cover=np.zeros(y.shape, np.uint8),
  )


def _set(
  scene: Scene,
  where: np.ndarray,
  *,
  cover: str,
  height: float | np.ndarray,
  crop: str = "background",
  tone: float = 0.0,
  is_grey: bool = False,
) -> None:
  scene.cover[where] = cosia(cover)
  scene.crop[where] = lpis(crop)
  scene.height[where] = (
    height[where] if isinstance(height, np.ndarray) else height
  )
  scene.tone[where] = tone
  scene.rows[where] = 0
  scene.is_grey[where] = is_grey


def _plant_orchards(
  rng: np.random.Generator,
  scene: Scene,
  is_orchard: np.ndarray,
  owner: np.ndarray,
  y: np.ndarray,
  x: np.ndarray,
) -> None:
  """Plants fruit trees on grass, 8 m apart."""
  angle = rng.uniform(0, np.pi)
  u = np.cos(angle) * x + np.sin(angle) * y
  v = -np.sin(angle) * x + np.cos(angle) * y
  distance = np.hypot(u % 8 - 4, v % 8 - 4)
  tree = is_orchard[owner] & (distance < 2.4)
  _set(scene, tree, cover="deciduous", height=4.0, crop="fruit orchards")


def _plant_hedges(
  rng: np.random.Generator,
  scene: Scene,
  owner: np.ndarray,
  margin: np.ndarray,
) -> None:
  """Plants trees or shrubs along the edges of about a third of the parcels."""
  draw = rng.random(owner.max() + 1)[owner]
  edge = margin < 4.0
  crowns = smooth_noise(rng, owner.shape, 2.0 / scene.gsd)
  trees = edge & (draw < 0.2) & (crowns > -0.6)
  _set(scene, trees, cover="deciduous", height=9 + 2 * crowns)
  shrubs = edge & (draw > 0.85)
  _set(scene, shrubs, cover="brushwood", height=1.8 + 0.5 * crowns)


def _lay_lines(
  rng: np.random.Generator, scene: Scene, y: np.ndarray, x: np.ndarray
) -> None:
  """Adds roads with verges, a track, and in half of the regions a stream."""
  if rng.random() < 0.5:
    distance = _distance_to_curve(rng, y, x)
    _set(scene, distance < 9, cover="brushwood", height=2.0)
    _set(scene, distance < rng.uniform(2.5, 5), cover="water", height=0.0)
  for width, cover in ((1.8, "pervious surface"), (3.2, None), (2.8, None)):
    distance = _distance_to_curve(rng, y, x)
    verge = distance < width + 2.5
    _set(scene, verge, cover="herbaceous vegetation", height=0.2)
    cover = cover or "impervious surface"
    _set(
      scene, distance < width, cover=cover, height=0.0, tone=rng.uniform(-1, 1)
    )


def _distance_to_curve(
  rng: np.random.Generator, y: np.ndarray, x: np.ndarray
) -> np.ndarray:
  """Distance to a curve through the region."""
  angle = rng.uniform(0, np.pi)
  along = np.cos(angle) * x + np.sin(angle) * y
  across = -np.sin(angle) * x + np.cos(angle) * y
  through = rng.uniform(0.2, 0.8, 2) * (y.max(), x.max())
  offset = -np.sin(angle) * through[1] + np.cos(angle) * through[0]
  bend = rng.uniform(4, 12) * np.sin(
    along / rng.uniform(40, 80) + rng.uniform(0, 6)
  )
  return np.abs(across - offset - bend)


def _build_villages(
  rng: np.random.Generator, scene: Scene, is_village: np.ndarray
) -> None:
  """Adds houses 20 m apart with a yard, and for some a pool or a tree."""
  size = np.array(scene.cover.shape) * scene.gsd
  angle = rng.uniform(0, np.pi / 2)
  for north in np.arange(8, size[0], 20.0):
    for east in np.arange(8, size[1], 20.0):
      centre = np.array([north, east]) + rng.uniform(-3, 3, 2)
      draws = rng.random(4)
      row, column = (centre / scene.gsd).astype(int)
      inside = row < is_village.shape[0] and column < is_village.shape[1]
      if not inside or not is_village[row, column]:
        continue
      rotation = angle + rng.normal(0, 0.08)
      yard = ("impervious surface", "pervious surface")[int(draws[0] < 0.4)]
      _place(scene, centre + (0, 7), rotation, (6, 3), is_village, cover=yard)
      if draws[1] < 0.35:
        _place(
          scene, centre + (8, 0), rotation, (3.4, 1.9), is_village,
          cover="swimming pool",
        )  # fmt: skip
      _place(
        scene,
        centre,
        rotation,
        rng.uniform((4.5, 3.5), (7.5, 5.0)),
        is_village,
        cover="building",
        height=rng.uniform(3.0, 7.0),
        ridge=rng.uniform(1.0, 2.5),
        tone=rng.uniform(-1, 1),
        is_grey=bool(draws[2] < 0.5),
      )
      if draws[3] < 0.6:
        _place(
          scene, centre - (7, 5), rotation, (2.3, 2.3), is_village,
          cover="deciduous", height=6.0, ridge=2.0, is_round=True,
        )  # fmt: skip


def _build_greenhouses(rng: np.random.Generator, scene: Scene) -> None:
  size = np.array(scene.cover.shape) * scene.gsd
  everywhere = np.ones(scene.cover.shape, bool)
  corner, rotation = rng.uniform(0.1, 0.8, 2) * size, rng.uniform(0, np.pi)
  step = 11.0 * np.array([np.cos(rotation), -np.sin(rotation)])
  for number in range(rng.integers(2, 5)):
    _place(
      scene, corner + number * step, rotation, (20.0, 4.5), everywhere,
      cover="greenhouse", height=3.0, ridge=1.0, tone=rng.uniform(-1, 1),
    )  # fmt: skip


def _place(
  scene: Scene,
  centre: np.ndarray,
  angle: float,
  half: tuple[float, float] | Float[np.ndarray, "2"],
  allowed: np.ndarray,
  *,
  cover: str,
  height: float = 0.0,
  ridge: float = 0.0,
  tone: float = 0.0,
  is_grey: bool = False,
  is_round: bool = False,
) -> None:
  """Sets a rotated rectangle, or an ellipse, with semi-axes `half`."""
  pixel = scene.gsd
  reach = float(np.hypot(*half)) + pixel
  top, left = (int(max(0, (c - reach) // pixel)) for c in centre)
  bottom, right = (
    int(min(length, max(0, (c + reach) // pixel + 2)))
    for c, length in zip(centre, scene.cover.shape, strict=True)
  )
  window = np.s_[top:bottom, left:right]
  if not scene.cover[window].size:
    return
  rows, columns = np.mgrid[window]
  north, east = rows * pixel - centre[0], columns * pixel - centre[1]
  u = np.abs(np.cos(angle) * east + np.sin(angle) * north) / half[0]
  v = np.abs(-np.sin(angle) * east + np.cos(angle) * north) / half[1]
  inside = np.hypot(u, v) <= 1 if is_round else np.maximum(u, v) <= 1
  part = Scene(
    pixel,
    *(
      getattr(scene, name)[window]
      for name in (
        "cover", "crop", "terrain", "height", "tone", "rows", "is_grey",
        "old_cover",
      )
    ),
  )  # fmt: skip
  roof = (height + ridge * (1 - v)).astype(np.float32)
  _set(
    part,
    inside & allowed[window],
    cover=cover,
    height=roof,
    tone=tone,
    is_grey=is_grey,
  )


def _historical_cover(
  scene: Scene, owner: np.ndarray, kinds: np.ndarray
) -> np.ndarray:
  """Land cover around 1955: smaller villages, the same woods and water."""
  old = scene.cover.copy()
  built = np.isin(
    old,
    [
      cosia(name)
      for name in ("building", "swimming pool", "greenhouse", "clear cut")
    ],
  )
  # A third of the villages existed already.
  is_old = (np.arange(len(kinds)) % 3 == 0)[owner]
  old[built & ~is_old] = cosia("agricultural land")
  return old
