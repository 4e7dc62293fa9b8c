"""Order of bands by what files say of them: descriptions and colours.

Colours are read only where they are not red, green and blue in this order,
which writers assign to any three bands.
"""

import re
from collections.abc import Sequence

from flairhub_jax.errors import InputError
from flairhub_jax.mapping.tiles import Tile
from flairhub_jax.schema import Sensor

# Words of band names -> the band that they mean.
_MEANING = {
  **dict.fromkeys(("r", "red", "rouge"), "red"),
  **dict.fromkeys(("g", "green", "vert"), "green"),
  **dict.fromkeys(("b", "blue", "bleu"), "blue"),
  **dict.fromkeys(("nir", "infrared", "pir"), "near infrared"),
  **dict.fromkeys(("pan", "panchromatic"), "panchromatic"),
}
# Words that make another band of a colour: red edge, short-wave infrared.
_OTHERS = {"edge", "coastal", "shortwave", "short", "thermal", "mid", "far"}
_DATE = re.compile(r"^\d{8}$")
_USUAL_COLOURS = ("red", "green", "blue")


def check(tiles: Sequence[Tile], sensor: Sensor, per_date: int) -> None:
  """Refuses files that name their bands in another order than the sensor.

  Args:
    tiles: the files.
    sensor: its bands.
    per_date: number of bands of each date; of an image, of the file.

  Raises:
    InputError: a band has the name of another one.
  """
  for tile in {(each.names, each.colours): each for each in tiles}.values():
    names = _names(tile, sensor)
    for i, name in enumerate(names):
      band = sensor.bands[i % per_date]
      if name is None or name == meaning(band, sensor.bands):
        continue
      numbers = order(sensor.bands, names[:per_date])
      remedy = "takes them in the order of the file"
      if numbers is None:
        numbers = tuple(range(per_date))
      else:
        remedy = "takes them by name"
      flag = ",".join(str(number + 1) for number in numbers)
      raise InputError(
        f"{tile.path}, band {i + 1}",
        f"{band} of {sensor.id}",
        f"the name of another band, {_text(tile, i)}; --bands"
        f" {sensor.id}={flag} {remedy}",
      )


def order(
  bands: Sequence[str], names: Sequence[str | None]
) -> tuple[int, ...] | None:
  """Index of the name of each band; None if one is missing or comes twice."""
  meanings = [meaning(name or "", bands) for name in names]
  places = []
  for band in bands:
    own = meaning(band, bands)
    if own is None or meanings.count(own) != 1:
      return None
    places.append(meanings.index(own))
  return tuple(places)


def _names(tile: Tile, sensor: Sensor) -> list[str | None]:
  """What each band is, by its description, else its colour; None: unknown."""
  names = [meaning(name, sensor.bands) for name in tile.names]
  if not any(names) and tile.colours[:3] != _USUAL_COLOURS:
    names = [
      meaning(colour, sensor.bands) if colour in _USUAL_COLOURS else None
      for colour in tile.colours
    ]
  return names[: tile.num_bands]


def meaning(text: str, bands: Sequence[str]) -> str | None:
  """The band that a name means: one of the sensor, or a colour.

  Dates and other words may stand beside it, but dates alone beside a single
  letter: "B 1" is any first band. Two different bands make it unknown.
  """
  words = re.findall(r"[a-z0-9]+", text.lower())
  words = [word for word in words if not _DATE.match(word)]
  if len(words) > 1:
    words = [word for word in words if len(word) > 1]
  own = {band.lower() for band in bands}
  meanings = {
    _MEANING.get(word, word) for word in words if word in own | _MEANING.keys()
  }
  if len(meanings) != 1 or not _OTHERS.isdisjoint(words):
    return None
  return meanings.pop()


def _text(tile: Tile, index: int) -> str:
  return repr(tile.names[index] or tile.colours[index])
