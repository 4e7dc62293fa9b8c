"""The scores published by IGN, for a column of the report.

Source: README of the reference (github.com/IGNF/FLAIR-HUB) and arXiv
2506.07080: test split of FLAIR-HUB, Swin-B 384 with UPerNet, or U-TAE for
Sentinel series only.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

SOURCE = (
  "IGN, README of FLAIR-HUB (arXiv 2506.07080): full test split, one run each, "
  "Swin-B 384 with UPerNet, or U-TAE for Sentinel series only"
)

_LAND_COVER, _CROPS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"
_AERIAL, _HISTORICAL = ("AERIAL_RGBI",), ("AERIAL-RLT_PAN",)
_DEM, _SPOT, _S2 = ("DEM_ELEV",), ("SPOT_RGBI",), ("SENTINEL2_TS",)
_S1 = ("SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS")
_ALL = _AERIAL + _HISTORICAL + _DEM + _SPOT + _S2 + _S1


class PublishedScore(NamedTuple):
  """One published experiment.

  Attributes:
    task: id of the label task.
    modalities: ids of the inputs.
    parameters: millions, without the fusion layers.
    overall_accuracy: percent.
    miou: percent.
  """

  task: str
  modalities: tuple[str, ...]
  parameters: float
  overall_accuracy: float
  miou: float


_ROWS = {
  "LC-A": (_LAND_COVER, _AERIAL, 89.4, 77.5, 64.1),
  "LC-B": (_LAND_COVER, _AERIAL + _DEM, 181.4, 78.1, 65.1),
  "LC-C": (_LAND_COVER, _AERIAL + _DEM + _SPOT, 270.6, 78.2, 65.2),
  "LC-D": (_LAND_COVER, _AERIAL + _S2, 93.9, 77.6, 64.7),
  "LC-E": (_LAND_COVER, _AERIAL + _S1, 95.8, 77.7, 64.5),
  "LC-F": (_LAND_COVER, _AERIAL + _S2 + _S1, 97.7, 77.7, 64.9),
  "LC-G": (_LAND_COVER, _S2, 0.9, 57.8, 34.2),
  "LC-H": (_LAND_COVER, _S1, 1.8, 54.5, 28.2),
  "LC-I": (_LAND_COVER, _SPOT, 89.2, 64.1, 43.5),
  "LC-J": (_LAND_COVER, _DEM, 89.4, 67.4, 51.2),
  "LC-K": (_LAND_COVER, _AERIAL + _HISTORICAL, 181.4, 77.6, 64.3),
  "LC-L": (_LAND_COVER, _AERIAL + _DEM + _SPOT + _S2 + _S1, 276.4, 78.2, 65.8),
  "LC-ALL": (_LAND_COVER, _ALL, 365.8, 78.2, 65.6),
  "LPIS-A": (_CROPS, _AERIAL, 89.4, 86.6, 24.4),
  "LPIS-B": (_CROPS, _AERIAL + _SPOT, 181.2, 87.1, 26.1),
  "LPIS-C": (_CROPS, _AERIAL + _S2, 93.9, 87.5, 29.8),
  "LPIS-D": (_CROPS, _AERIAL + _S2 + _S1, 97.7, 88.0, 36.1),
  "LPIS-E": (_CROPS, _AERIAL + _SPOT + _S2, 183.1, 87.6, 30.3),
  "LPIS-F": (_CROPS, _S2, 0.9, 85.3, 23.8),
  "LPIS-G": (_CROPS, _S1, 1.8, 84.5, 18.1),
  "LPIS-H": (_CROPS, _S2 + _S1, 2.8, 84.9, 23.8),
  "LPIS-I": (_CROPS, _SPOT + _S2 + _S1, 97.5, 87.2, 39.2),
  "LPIS-J": (_CROPS, _AERIAL + _SPOT + _S2 + _S1, 186.9, 88.0, 35.4),
  "LPIS-K": (_CROPS, _SPOT, 89.2, 84.5, 15.1),
}
SCORES: Mapping[str, PublishedScore] = {
  name: PublishedScore(*row) for name, row in _ROWS.items()
}


def find(
  modalities: Sequence[str], tasks: Sequence[str]
) -> tuple[str, PublishedScore] | None:
  """Finds the single-task experiment with these inputs.

  Returns:
    Its id and its scores; None if there is none.
  """
  for name, score in SCORES.items():
    same_inputs = set(score.modalities) == set(modalities)
    if same_inputs and tuple(tasks) == (score.task,):
      return name, score
  return None
