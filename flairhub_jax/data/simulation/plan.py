"""Layout of a simulated data set: domains, regions, patches, splits, dates."""

import dataclasses
import datetime
import zlib
from collections.abc import Sequence

import numpy as np

from flairhub_jax.data import columns
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import Schema, Sensor

CRS = "EPSG:2154"
# Size of the published aerial patches; fewer pixels cover the same area.
PIXELS = 512
# Default length of a patch in metres, and its minimum in pixels.
_METRES, _MIN_PIXELS = 102.4, 32

# Name, mean elevation in metres.
_DOMAINS = (
  ("D006-2020", 420.0),
  ("D032-2019", 190.0),
  ("D012-2019", 480.0),
  ("D038-2021", 900.0),
  ("D044-2020", 60.0),
  ("D051-2019", 130.0),
  ("D005-2018", 1650.0),
  ("D073-2020", 1600.0),
  ("D033-2018", 80.0),
  ("D085-2019", 60.0),
)
_TEST_DOMAINS = ("D012-2019", "D073-2020")
# Themes of consecutive regions, such that every split has every theme.
_THEMES = "AUAFNAFUNA"
_COLUMNS_PER_REGION = 3
_NUM_S2_DATES, _NUM_S1_DATES = (20, 40), (25, 40)
HISTORICAL = "AERIAL-RLT_PAN"
OPTICAL = "SENTINEL2_TS"


@dataclasses.dataclass(frozen=True)
class Settings:
  """Everything that determines a simulated data set.

  Attributes:
    num_patches: over all splits.
    pixels: size of the landscape in a patch; below `PIXELS` also the maximum
      size of every sensor.
    modalities: ids of the sensors.
    seed: of all random numbers.
    schema: sensors and label tasks.
  """

  num_patches: int
  pixels: int
  modalities: tuple[str, ...]
  seed: int
  schema: Schema

  @property
  def metres(self) -> float:
    """Length of a patch: of the schema, or for a usual number of pixels."""
    length = columns.square(self.schema)
    if length is not None:
      return length
    for sensor in self.schema.sensor_rows:
      if sensor.pixels is not None:
        return sensor.pixels * sensor.gsd
    distances = [row.gsd for row in self.schema.sensor_rows]
    distances += [row.gsd for row in self.schema.task_rows]
    finest = min(distances)
    return min(max(_METRES, _MIN_PIXELS * finest), PIXELS * finest)

  def size(self, gsd: float) -> int:
    """Size of a patch in pixels."""
    size = max(1, round(self.metres / gsd))
    return min(size, self.pixels) if self.pixels < PIXELS else size

  def step(self, column: str, size: int) -> float:
    """Length of a pixel in metres, for `size` pixels per patch."""
    gsd = columns.published(self.schema, column).gsd
    step = self.metres / size
    is_full_size = size == max(1, round(self.metres / gsd))
    return gsd if is_full_size and abs(step / gsd - 1) > 0.01 else step


@dataclasses.dataclass(frozen=True)
class Region:
  """A block of adjacent patches (an ROI) of one domain.

  Attributes:
    number: index of the region; seeds its random numbers.
    domain: e.g. `D006-2020`.
    altitude: mean elevation in metres.
    name: e.g. `AU-S1-3`; its first letter is the theme of the landscape.
    patches: (row, column) of each patch.
    split: `test`, or None if its patches are drawn for train and valid.
    num_columns: patches across.
  """

  number: int
  domain: str
  altitude: float
  name: str
  patches: tuple[tuple[int, int], ...]
  split: str | None
  num_columns: int = _COLUMNS_PER_REGION

  @property
  def shape(self) -> tuple[int, int]:
    """Rows and columns of patches."""
    return max(row for row, _ in self.patches) + 1, self.num_columns

  @property
  def corner(self) -> tuple[float, float]:
    """Easting and northing of the upper left corner in EPSG:2154."""
    east = 500_000 + 51_200 * (self.number % 10)
    return east, 6_900_000 - 51_200 * (self.number // 10)


def plan_regions(num_patches: int) -> list[Region]:
  """Distributes the patches over regions, and these over ten domains."""
  per_region = min(9, -(-num_patches // 3))
  regions = []
  for number in range(-(-num_patches // per_region)):
    domain, altitude = _DOMAINS[number % len(_DOMAINS)]
    theme = _THEMES[(number + number // 10) % len(_THEMES)]
    count = min(per_region, num_patches - number * per_region)
    regions.append(
      Region(
        number=number,
        domain=domain,
        altitude=altitude,
        name=f"{theme}{_THEMES[number % 5]}-S1-{number + 1}",
        patches=tuple(
          divmod(index, _COLUMNS_PER_REGION) for index in range(count)
        ),
        split="test" if domain in _TEST_DOMAINS else None,
      )
    )
  return regions


def patch_id(region: Region, patch: tuple[int, int]) -> str:
  """Returns the id in the published format: domain-year_region_row-column."""
  return f"{region.domain}_{region.name}_{patch[0]}-{patch[1]}"


def draw_splits(regions: Sequence[Region], seed: int) -> dict[str, str]:
  """Draws the split of each patch; a quarter of those not in test is valid."""
  splits = {
    patch_id(region, patch): region.split or "train"
    for region in regions
    for patch in region.patches
  }
  train = [name for name, split in splits.items() if split == "train"]
  rng = np.random.default_rng([seed, 1])
  for name in rng.permutation(train)[: max(1, len(train) // 4)]:
    splits[str(name)] = "valid"
  return splits


def relative_path(region: Region, name: str, patch: tuple[int, int]) -> str:
  """Returns the published path of a file, relative to the data set."""
  domain = region.domain
  if name == HISTORICAL:
    domain = domain.split("-")[0] + "-195X"
  file = f"{domain}_{name}_{region.name}_{patch[0]}-{patch[1]}.tif"
  return f"{domain}_{name}/{region.name}/{file}"


def is_published(sensor: Sensor) -> bool:
  """Whether FLAIR-HUB has a sensor with this id and file format."""
  other = FLAIR_HUB.sensors.get(sensor.id)
  return other is not None and all(
    getattr(sensor, field) == getattr(other, field)
    for field in (
      "kind", "bands", "gsd", "pixels", "dtype", "dates", "quality_mask",
      "no_data",
    )
  )  # fmt: skip


def draw_dates(
  region: Region, sensor: Sensor, seed: int
) -> list[datetime.date]:
  """Draws the acquisition dates of a region; Sentinel-2 has repeated dates."""
  year, name = int(region.domain[5:9]), sensor.id
  if is_published(sensor):
    kind = list(FLAIR_HUB.sensors).index(name)
  else:
    # Series that share a file have the same dates.
    kind = zlib.crc32((sensor.dates or name).encode())
  rng = np.random.default_rng([seed, region.number, kind, 7])
  first = datetime.date(year, 1, 1)
  if name == HISTORICAL:
    first, year = datetime.date(1955, 1, 1), 1955
  if not sensor.is_series:
    return [first + datetime.timedelta(days=int(rng.integers(150, 240)))]
  is_optical = name == OPTICAL and is_published(sensor)
  span = _NUM_S2_DATES if is_optical else _NUM_S1_DATES
  days = rng.choice(365, int(rng.integers(*span)), replace=False)
  if is_optical:  # adjacent tiles of one overpass
    days[:2] = days[2:4]
  return [first + datetime.timedelta(days=int(day)) for day in np.sort(days)]
