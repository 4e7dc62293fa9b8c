"""Schemas of FLAIR#1 and FLAIR#2: aerial patches of five bands and labels 1-19.

Bands, label values, names, colours, means and standard deviations are those of
IGN's public code and data papers (arXiv 2211.12979 and 2305.14467). A split CSV
names the two columns AERIAL_RGBIE and FLAIR_LABEL. The super-areas of
Sentinel-2 of FLAIR#2 are NumPy arrays that several patches share, not one
raster per patch; they are not described here.
"""

from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.schema import LabelClass, LabelTask, Schema, Sensor

_COLUMN = "FLAIR_LABEL"
_BANDS = ("R", "G", "B", "NIR", "ELEVATION")

# Stored value, name of FLAIR#1, name of FLAIR-HUB's COSIA classes.
_CLASSES = (
  (1, "building", "building"),
  (2, "pervious surface", "pervious surface"),
  (3, "impervious surface", "impervious surface"),
  (4, "bare soil", "bare soil"),
  (5, "water", "water"),
  (6, "coniferous", "coniferous"),
  (7, "deciduous", "deciduous"),
  (8, "brushwood", "brushwood"),
  (9, "vineyard", "vineyard"),
  (10, "herbaceous vegetation", "herbaceous vegetation"),
  (11, "agricultural land", "agricultural land"),
  (12, "plowed land", "plowed land"),
  (13, "swimming pool", "swimming pool"),
  (14, "snow", "snow"),
  (15, "clear cut", "clear cut"),
  (16, "mixed", "mixed"),
  (17, "ligneous", "ligneous"),
  (18, "greenhouse", "greenhouse"),
  (19, "other", "undefined"),
)
_COSIA = FLAIR_HUB.tasks["AERIAL_LABEL-COSIA"]
_COSIA_CLASS = {each.name: each for each in _COSIA.classes}
# The baselines score the first twelve classes and merge the rest.
_NUM_BASELINE = 12


def _task(id: str, title: str, classes) -> LabelTask:
  return LabelTask(
    id=id, title=title, column=_COLUMN, classes=tuple(classes), gsd=0.2
  )


def _as_stored(value: int, name: str, cosia: str) -> LabelClass:
  return LabelClass(
    name=name,
    colour=_COSIA_CLASS[cosia].colour,
    is_scored=_COSIA_CLASS[cosia].is_scored,
    values=(value,),
  )


def _baseline() -> tuple[LabelClass, ...]:
  others = tuple(value for value, _, _ in _CLASSES[_NUM_BASELINE:])
  return (
    *(_as_stored(*row) for row in _CLASSES[:_NUM_BASELINE]),
    LabelClass(name="other", colour="#000000", is_scored=False, values=others),
  )


def _as_cosia() -> tuple[LabelClass, ...]:
  value_of = {cosia: value for value, _, cosia in _CLASSES}
  return tuple(
    each.model_copy(update={"values": (value_of[each.name],)})
    for each in _COSIA.classes
  )


_AERIAL = Sensor(
  id="AERIAL_RGBIE",
  bands=_BANDS,
  gsd=0.2,
  pixels=512,
  dtype="uint8",
  unit="digital number; elevation encoded in 8 bits",
  mean=dict(zip(_BANDS, (105.08, 110.87, 101.82, 106.38, 53.26), strict=True)),
  std=dict(zip(_BANDS, (52.17, 45.38, 44.0, 39.69, 79.3), strict=True)),
)
_AS_STORED = _task(
  "FLAIR_LABEL", "land cover", (_as_stored(*row) for row in _CLASSES)
)
_BASELINE = _task("FLAIR_LABEL-13", "land cover, 13 classes", _baseline())
_MAPPED = _task("AERIAL_LABEL-COSIA", "land cover (COSIA)", _as_cosia())

FLAIR_1 = Schema(
  name="FLAIR#1", sensors=(_AERIAL,), tasks=(_AS_STORED, _BASELINE, _MAPPED)
)
FLAIR_2 = Schema(
  name="FLAIR#2", sensors=(_AERIAL,), tasks=(_BASELINE, _AS_STORED, _MAPPED)
)
