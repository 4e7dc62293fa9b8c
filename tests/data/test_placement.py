import dataclasses
import math

import pytest
from rasterio.crs import CRS

from flairhub_jax.data.columns import Published
from flairhub_jax.data.geotiff import Georeference
from flairhub_jax.data.placement import compare

STEP, X, Y, PIXELS = 0.2, 900_000.0, 6_500_000.0, 512
PLACE = Georeference("EPSG:2154", (STEP, 0, X, 0, -STEP, Y), PIXELS, PIXELS)
SIDE = STEP * PIXELS
FINE = Published(STEP, SIDE)
NAMED = (
  'LOCAL_CS["{}",UNIT["metre",1,AUTHORITY["EPSG","9001"]],'
  'AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)


def with_crs(text):
  return CRS.from_string(text).to_wkt()


LAMBERT = dataclasses.replace(PLACE, crs=with_crs("EPSG:2154"))


def at(*transform, pixels=PIXELS, crs=LAMBERT.crs):
  return Georeference(crs, transform, pixels, pixels)


COS, SIN = STEP * math.cos(0.1), STEP * math.sin(0.1)
ELSEWHERE = {
  "half the pixel size": (at(0.1, 0, X, 0, -0.1, Y), "pixels of 0.1"),
  "south up": (at(STEP, 0, X, 0, STEP, Y - SIDE), "south up"),
  "mirrored": (at(-STEP, 0, X + SIDE, 0, -STEP, Y), "east to the left"),
  "turned": (at(COS, SIN, X, SIN, -COS, Y), "turned by 5.7 degrees"),
  "upside down": (at(-STEP, 0, X + SIDE, 0, STEP, Y - SIDE), "turned by 180"),
  "sheared": (at(STEP, 0.05, X, 0, -STEP, Y), "sheared"),
  "transposed": (at(0, STEP, X, -STEP, 0, Y), "mirrored"),
  "one pixel off": (at(STEP, 0, X + STEP, 0, -STEP, Y), "(900000.20"),
  "other extent": (at(STEP, 0, X, 0, -STEP, Y, pixels=256), "51.2 x 51.2"),
  "a coarse one": (at(3.2, 0, X, 0, -3.2, Y, pixels=64), "pixels of 3.2"),
  "other zone": (
    at(STEP, 0, X, 0, -STEP, Y, crs=with_crs("EPSG:32631")),
    "EPSG:32631",
  ),
  "a drawing of another name": (
    at(STEP, 0, X, 0, -STEP, Y, crs=with_crs(NAMED.format("Amersfoort / RD"))),
    "'Amersfoort / RD'",
  ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_ground_is_reported(name):
  other, argv = ELSEWHERE[name]
  _, actual = compare(
    LAMBERT, other, published=FINE, other_published=FINE
  ).problem
  assert argv in actual
  assert compare(other, LAMBERT).problem


SAME = {
  "10 m pixels of 10.24": at(10.0, 0, X, 0, -10.0, Y, pixels=10),
  "a coarse one, half a pixel off": at(1.6, 0, X + 0.8, 0, -1.6, Y, pixels=64),
  "EPSG:9794": dataclasses.replace(PLACE, crs=with_crs("EPSG:9794")),
  "IGNF:LAMB93": dataclasses.replace(PLACE, crs=with_crs("IGNF:LAMB93")),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_ground_is_accepted_without_a_word(name):
  actual = compare(LAMBERT, SAME[name])
  assert (actual.problem, actual.note) == (None, None)


@pytest.mark.parametrize(
  "name", ["RGF93 v1 / Lambert-93", "RGF93_Lambert_93", "unnamed"]
)
def test_a_crs_that_is_only_named_is_accepted_with_a_note(name):
  crs = with_crs(NAMED.format(name))
  actual = compare(LAMBERT, dataclasses.replace(PLACE, crs=crs))
  assert actual.problem is None and name in actual.note
  elsewhere = at(STEP, 0, X + 9, 0, -STEP, Y, crs=crs)
  assert compare(LAMBERT, elsewhere).problem


def test_the_published_square_may_surround_a_part_of_it():
  part = at(STEP, 0, X, 0, -STEP, Y, pixels=128)
  square = at(1.6, 0, X, 0, -1.6, Y, pixels=64)
  sizes = {"published": FINE, "other_published": Published(1.6, SIDE)}
  actual = compare(part, square, **sizes)
  assert actual.problem is None and "102.4 x 102.4" in actual.note
  assert compare(
    part, at(1.6, 0, X + 2, 0, -1.6, Y, pixels=64), **sizes
  ).problem
