"""Layout of a simulated data set: domains, regions, patches, splits, dates."""

import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np

from flairhub_jax.modalities import MASKED_MODALITY, MODALITIES

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
# Letters of the regions in turn, so that every theme is in every split.
_THEMES = "AUAFNAFUNA"
_COLUMNS_PER_REGION = 3
_NUM_S2_DATES, _NUM_S1_DATES = (20, 40), (25, 40)
HISTORICAL = "AERIAL-RLT_PAN"


@dataclasses.dataclass(frozen=True)
class Region:
  """A block of adjacent patches (an ROI) of one domain.

  Attributes:
    number: counts the regions; with the seed it fixes everything.
    domain: e.g. `D006-2020`.
    altitude: mean elevation in metres.
    name: e.g. `AU-S1-3`; its first letter is the theme of the landscape.
    patches: (row, column) of each patch.
    split: `test`, or None where patches are drawn one by one.
  """

  number: int
  domain: str
  altitude: float
  name: str
  patches: tuple[tuple[int, int], ...]
  split: str | None

  @property
  def shape(self) -> tuple[int, int]:
    """Patches down and across."""
    return max(row for row, _ in self.patches) + 1, _COLUMNS_PER_REGION

  @property
  def corner(self) -> tuple[float, float]:
    """East and north of the upper left corner, metres in EPSG:2154."""
    east = 500_000 + 51_200 * (self.number % 10)
    return east, 6_900_000 - 51_200 * (self.number // 10)


def plan_regions(num_patches: int) -> list[Region]:
  """Divides the patches over regions, and these over ten domains."""
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
  """Published form: domain-year_region_row-column."""
  return f"{region.domain}_{region.name}_{patch[0]}-{patch[1]}"


def draw_splits(regions: Sequence[Region], seed: int) -> dict[str, str]:
  """Draws the split of each patch: a quarter of those not in test is valid."""
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
  """Path of a file below the data set's folder, as published."""
  domain = region.domain
  if name == HISTORICAL:
    domain = domain.split("-")[0] + "-195X"
  file = f"{domain}_{name}_{region.name}_{patch[0]}-{patch[1]}.tif"
  return f"{domain}_{name}/{region.name}/{file}"


def draw_dates(region: Region, name: str, seed: int) -> list[datetime.date]:
  """Acquisitions of a region, ascending; Sentinel-2 may come twice a day."""
  year = int(region.domain[5:9])
  kind = list(MODALITIES).index(name)
  rng = np.random.default_rng([seed, region.number, kind, 7])
  first = datetime.date(year, 1, 1)
  if name == HISTORICAL:
    first, year = datetime.date(1955, 1, 1), 1955
  if not MODALITIES[name].is_series:
    return [first + datetime.timedelta(days=int(rng.integers(150, 240)))]
  span = _NUM_S2_DATES if name == MASKED_MODALITY else _NUM_S1_DATES
  days = rng.choice(365, int(rng.integers(*span)), replace=False)
  if name == MASKED_MODALITY:  # neighbouring tiles of one overpass
    days[:2] = days[2:4]
  return [first + datetime.timedelta(days=int(day)) for day in np.sort(days)]
