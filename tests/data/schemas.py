"""Schemas for tests: FLAIR-HUB's of another GSD, and one of other sensors."""

from collections.abc import Mapping

from flairhub_jax import schema_file
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import Schema


def with_gsd(gsd: Mapping[str, float]) -> Schema:
  """FLAIR-HUB's schema with another GSD of some sensors."""
  content = schema_file.to_json(FLAIR_HUB)
  for row in content["sensors"]:
    row["gsd"] = gsd.get(row["id"], row["gsd"])
  return schema_file.parse(content, where="test")


_RED = "#ff0000"

# Colour and 16-bit images, a series with a mask of three bands, two tasks on
# one band, and one of values beyond 255. The value 255 is a class.
OTHER = schema_file.parse(
  {
    "name": "other",
    "sensors": [
      {
        "id": "DRONE_RGB",
        "bands": ["R", "G", "B"],
        "gsd": 0.5,
        "dtype": "uint8",
        "mean": [100, 110, 90],
        "std": [30, 20, 25],
      },
      {
        "id": "SAT_16",
        "bands": ["BLUE", "GREEN", "RED", "NIR"],
        "gsd": 2.0,
        "dtype": "int16",
        "no_data": -9999,
      },
      {
        "id": "WEEKLY",
        "kind": "series",
        "bands": ["RED", "NIR"],
        "gsd": 10.0,
        "dtype": "uint16",
        "dates": "weekly.csv",
        "quality_mask": {
          "id": "WEEKLY_MASK",
          "bands": ["cloud", "shadow", "snow"],
          "full": 1,
        },
      },
    ],
    "tasks": [
      {
        "id": "COVER",
        "column": "LAND",
        "gsd": 0.5,
        "classes": [
          {"name": "open", "colour": _RED, "values": [10, 11, 12]},
          {"name": "wood", "colour": _RED, "values": [20, 255]},
        ],
        "ignored": [0],
      },
      {
        "id": "WOOD",
        "column": "LAND",
        "gsd": 0.5,
        "classes": [
          {"name": "other", "colour": _RED, "values": [0, 10, 12]},
          {"name": "orchard", "colour": _RED, "values": [11]},
          {"name": "broadleaved", "colour": _RED, "values": [20]},
          {"name": "needleleaved", "colour": _RED, "values": [255]},
        ],
      },
      {
        "id": "CODE",
        "gsd": 0.5,
        "classes": [
          {"name": "maize", "colour": _RED, "values": [1201]},
          {"name": "wheat", "colour": _RED, "values": [1101, 1102]},
        ],
        "ignored": [1999],
      },
    ],
  },
  where="test",
)
