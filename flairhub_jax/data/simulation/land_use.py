"""Land use of a simulated region: kinds of parcels and their frequency."""

import dataclasses

from flairhub_jax.flair_hub import FLAIR_HUB

_COSIA_VALUE = {
  name: value
  for value, name in enumerate(
    FLAIR_HUB.tasks["AERIAL_LABEL-COSIA"].class_names
  )
}
_LPIS_VALUE = {
  name: value
  for value, name in enumerate(FLAIR_HUB.tasks["ALL_LABEL-LPIS"].class_names)
}
BACKGROUND = _LPIS_VALUE["background"]

SPRING_CROPS = ("maize", "sunflower", "soy", "beetroots", "potatoes")
WINTER_CROPS = ("wheat", "barley", "rapeseed", "other cereals")


def cosia(name: str) -> int:
  """Value of a land-cover class."""
  return _COSIA_VALUE[name]


def lpis(name: str) -> int:
  """Value of a crop class."""
  return _LPIS_VALUE[name]


@dataclasses.dataclass(frozen=True)
class Kind:
  """Land use of a parcel.

  Attributes:
    cover: land-cover class.
    crop: LPIS class.
    height: of the vegetation, in metres.
    roughness: standard deviation of the height, in metres.
    row_spacing: of planted rows, in metres; 0 without rows.
  """

  cover: str
  crop: str = "background"
  height: float = 0.0
  roughness: float = 0.0
  row_spacing: float = 0.0


KINDS = {
  **{
    crop: Kind("agricultural land", crop, height, 0.1, 4.0)
    for crop, height in (
      ("wheat", 0.8),
      ("barley", 0.8),
      ("other cereals", 0.8),
      ("rapeseed", 1.2),
      ("maize", 1.6),
      ("sunflower", 1.5),
      ("soy", 0.7),
      ("beetroots", 0.5),
      ("potatoes", 0.5),
      ("fodder legumes", 0.5),
    )
  },
  **{
    f"plowed {crop}": Kind("plowed land", crop, 0.0, 0.15, 5.0)
    for crop in SPRING_CROPS
  },
  "meadow": Kind("herbaceous vegetation", "grasses", 0.3, 0.1),
  "herbs": Kind("herbaceous vegetation", "background", 0.3, 0.2),
  "vineyard": Kind("vineyard", "vineyard", 1.4, 0.2, 6.0),
  "orchard": Kind("herbaceous vegetation", "fruit orchards", 0.3, 0.1),
  "bare": Kind("bare soil"),
  "deciduous": Kind("deciduous", "background", 13.0, 3.0),
  "coniferous": Kind("coniferous", "background", 15.0, 4.0),
  "mixed": Kind("mixed", "background", 14.0, 3.5),
  "ligneous": Kind("ligneous", "background", 5.0, 1.5),
  "brushwood": Kind("brushwood", "background", 1.8, 0.8),
  "clear cut": Kind("clear cut", "background", 0.4, 0.4),
  "pond": Kind("water"),
  "village": Kind("herbaceous vegetation", "background", 0.2, 0.1),
  "yard": Kind("pervious surface"),
}

_CROPS = {crop: 1.0 for crop in (*WINTER_CROPS, *SPRING_CROPS)}
# Theme of a region -> kind -> weight.
THEMES: dict[str, dict[str, float]] = {
  "U": {
    "village": 9,
    "meadow": 2,
    "herbs": 2,
    "deciduous": 1,
    "yard": 1,
    "bare": 1,
    "orchard": 1,
    "coniferous": 1,
  },
  "A": {
    **_CROPS,
    "fodder legumes": 1,
    **{f"plowed {crop}": 0.6 for crop in SPRING_CROPS},
    "meadow": 2,
    "vineyard": 1.5,
    "orchard": 1,
    "bare": 1,
    "deciduous": 1,
    "village": 1.5,
  },
  "F": {
    "deciduous": 5,
    "coniferous": 5,
    "mixed": 1.5,
    "ligneous": 0.5,
    "clear cut": 0.8,
    "brushwood": 1.5,
    "meadow": 1,
    "herbs": 1,
  },
  "N": {
    "herbs": 3,
    "brushwood": 3,
    "bare": 2,
    "pond": 1.5,
    "coniferous": 2,
    "deciduous": 1,
    "meadow": 2,
    "yard": 0.5,
  },
}
