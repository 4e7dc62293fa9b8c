"""The two label tasks: class names, official colours, scored classes.

Values, names and colours are those IGN publishes with the data set and its
QGIS styles.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class LabelClass:
  """One class: its names, its official colour, whether it is scored."""

  name: str
  name_fr: str
  colour: str
  is_scored: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelTask:
  """A label raster and the classes its values stand for.

  Attributes:
    id: published name, used in CSV headers, folders, configs and batches.
    short_name: for headings and legends.
    classes: the class of each value, in order of value.
    band: index of the band with these classes, from 0.
    num_bands: number of bands of the published file.
  """

  id: str
  short_name: str
  classes: tuple[LabelClass, ...]
  band: int
  num_bands: int

  @property
  def num_classes(self) -> int:
    """Number of classes, unscored ones included."""
    return len(self.classes)

  @property
  def scored(self) -> np.ndarray:
    """Bool [k]: classes of the loss and the metrics."""
    return np.array([c.is_scored for c in self.classes])

  @property
  def palette(self) -> np.ndarray:
    """Uint8 [k 3]: official colours, red green blue."""
    return np.array(
      [tuple(bytes.fromhex(c.colour.removeprefix("#"))) for c in self.classes],
      np.uint8,
    )


_COSIA = (
  LabelClass("building", "bâtiment", "#db0e9a"),
  LabelClass("greenhouse", "serre", "#9999ff"),
  LabelClass("swimming pool", "piscine", "#3de6eb"),
  LabelClass("impervious surface", "zone imperméable", "#f80c00"),
  LabelClass("pervious surface", "zone perméable", "#938e7b"),
  LabelClass("bare soil", "sol nu", "#a97101"),
  LabelClass("water", "eau", "#1553ae"),
  LabelClass("snow", "neige", "#ffffff"),
  LabelClass("herbaceous vegetation", "surface herbacée", "#55ff00"),
  LabelClass("agricultural land", "culture", "#fff30d"),
  LabelClass("plowed land", "terre labourée", "#e4df7c"),
  LabelClass("vineyard", "vigne", "#660082"),
  LabelClass("deciduous", "feuillu", "#46e483"),
  LabelClass("coniferous", "conifère", "#194a26"),
  LabelClass("brushwood", "broussaille", "#f3a60d"),
  LabelClass("clear cut", "coupe", "#8ab3a0", is_scored=False),
  LabelClass("ligneous", "ligneux", "#c5dc42", is_scored=False),
  LabelClass("mixed", "mixte", "#6b714f", is_scored=False),
  LabelClass("undefined", "indéterminé", "#000000", is_scored=False),
)

_LPIS_LEVEL_1 = (
  LabelClass("grasses", "herbe prédominante", "#92d050"),
  LabelClass("wheat", "blé", "#d7e600"),
  LabelClass("barley", "orge", "#e0e000"),
  LabelClass("maize", "maïs", "#fff100"),
  LabelClass("other cereals", "autres céréales", "#ffff00"),
  LabelClass("rice", "riz", "#e8e8e8"),
  LabelClass("flax/hemp/tobacco", "lin/chanvre/tabac", "#dceaf7"),
  LabelClass("sunflower", "tournesol", "#d29ead"),
  LabelClass("rapeseed", "colza", "#d29ed0"),
  LabelClass("other oilseed crops", "autres oléagineux", "#ffbe99"),
  LabelClass("soy", "soja", "#ffc000"),
  LabelClass("other protein crops", "autres protéagineux", "#ff9000"),
  LabelClass("fodder legumes", "légumineuses fourragères", "#009999"),
  LabelClass("beetroots", "betterave", "#808000"),
  LabelClass("potatoes", "pomme de terre", "#a7a700"),
  LabelClass("other arable crops", "autres arables", "#89896d"),
  LabelClass("vineyard", "vigne", "#f2cfee"),
  LabelClass("olive groves", "oliveraie", "#6f6633"),
  LabelClass("fruit orchards", "verger fruits", "#ac8141"),
  LabelClass("nut orchards", "verger noix", "#996633"),
  LabelClass("other permanent crops", "autres pérennes", "#80c1d7"),
  LabelClass("mixed crops", "mélange", "#000000"),
  LabelClass("background", "autres", "#000000"),
)

TASKS: Mapping[str, LabelTask] = {
  task.id: task
  for task in (
    LabelTask(
      id="AERIAL_LABEL-COSIA",
      short_name="land cover",
      classes=_COSIA,
      band=0,
      num_bands=1,
    ),
    LabelTask(
      id="ALL_LABEL-LPIS",
      short_name="crops",
      classes=_LPIS_LEVEL_1,
      band=0,
      num_bands=3,
    ),
  )
}

GSD = 0.2
