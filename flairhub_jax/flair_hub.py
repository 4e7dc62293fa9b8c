"""FLAIR-HUB's schema: seven sensors, land cover and three levels of crops.

Sizes, band order, types, units, classes and colours are those of the published
data set (arXiv 2506.07080; dataset page and QGIS styles of IGN), names and
colours of the crops' lower levels those of TorchGeo. Means and standard
deviations are those with which the released checkpoints were trained; time
series have none, the network receives them as they are. `num_dates` is the mean
of the published regions: 256,221 dates of Sentinel-2 and 532,696 of Sentinel-1
over 2,822 regions.
"""

from flairhub_jax.schema import (
  LabelClass,
  LabelTask,
  QualityMask,
  Schema,
  Sensor,
)


def _class(
  name: str, name_fr: str, colour: str, is_scored: bool = True
) -> LabelClass:
  return LabelClass(
    name=name, names={"fr": name_fr}, colour=colour, is_scored=is_scored
  )


def _crop(name: str, colour: str, parent: str) -> LabelClass:
  return LabelClass(name=name, colour=colour, parent=parent)


_RGBI = ("R", "G", "B", "NIR")
_S2_BANDS = tuple("B02 B03 B04 B05 B06 B07 B08 B8A B11 B12".split())

# The order is the reference's: its first active image modality gives the grid
# and the widths on which the others are fused.
_SENSORS = (
  Sensor(
    id="AERIAL_RGBI",
    kind="image",
    bands=_RGBI,
    gsd=0.2,
    pixels=512,
    dtype="uint8",
    unit="digital number",
    mean=dict(R=105.66, G=111.35, B=102.18, NIR=106.59),
    std=dict(R=52.23, G=45.62, B=44.30, NIR=39.78),
    default_bands=("NIR", "R", "G"),
  ),
  Sensor(
    id="AERIAL-RLT_PAN",
    kind="image",
    bands=("PAN",),
    gsd=0.4,
    pixels=256,
    dtype="uint8",
    unit="digital number (1947-1965)",
    mean=dict(PAN=125.92),
    std=dict(PAN=38.45),
  ),
  Sensor(
    id="DEM_ELEV",
    kind="image",
    bands=("DSM", "DTM"),
    gsd=0.2,
    pixels=512,
    dtype="float32",
    unit="metre",
    # One scale for all three keeps differences of elevation comparable.
    mean=dict(DSM=311.06, DTM=311.06, NDSM=311.06),
    std=dict(DSM=537.55, DTM=537.55, NDSM=537.55),
    derived_bands=dict(NDSM=("DSM", "DTM")),
    default_bands=("DSM", "NDSM"),
  ),
  Sensor(
    id="SPOT_RGBI",
    kind="image",
    bands=_RGBI,
    gsd=1.6,
    pixels=64,
    dtype="uint16",
    unit="calibrated reflectance",
    mean=dict(R=433.26, G=508.75, B=467.77, NIR=1137.03),
    std=dict(R=312.76, G=284.61, B=226.02, NIR=543.11),
    default_bands=("NIR", "R", "G"),
  ),
  Sensor(
    id="SENTINEL2_TS",
    kind="series",
    bands=_S2_BANDS,
    gsd=10.24,
    pixels=10,
    num_dates=91,
    dates="GLOBAL_SENTINEL2_MTD_DATES.gpkg",
    quality_mask=QualityMask(id="SENTINEL2_MSK-SC", bands=("snow", "cloud")),
    dtype="uint16",
    unit="reflectance x 10000",
  ),
  Sensor(
    id="SENTINEL1-ASC_TS",
    kind="series",
    bands=("VV", "VH"),
    gsd=10.24,
    pixels=10,
    num_dates=94,
    dates="GLOBAL_SENTINEL1-ASC_MTD_DATES.gpkg",
    dtype="float32",
    unit="sigma0, linear",
  ),
  Sensor(
    id="SENTINEL1-DESC_TS",
    kind="series",
    bands=("VV", "VH"),
    gsd=10.24,
    pixels=10,
    num_dates=94,
    dates="GLOBAL_SENTINEL1-DESC_MTD_DATES.gpkg",
    dtype="float32",
    unit="sigma0, linear",
  ),
)

_COSIA = (
  _class("building", "bâtiment", "#db0e9a"),
  _class("greenhouse", "serre", "#9999ff"),
  _class("swimming pool", "piscine", "#3de6eb"),
  _class("impervious surface", "zone imperméable", "#f80c00"),
  _class("pervious surface", "zone perméable", "#938e7b"),
  _class("bare soil", "sol nu", "#a97101"),
  _class("water", "eau", "#1553ae"),
  _class("snow", "neige", "#ffffff"),
  _class("herbaceous vegetation", "surface herbacée", "#55ff00"),
  _class("agricultural land", "culture", "#fff30d"),
  _class("plowed land", "terre labourée", "#e4df7c"),
  _class("vineyard", "vigne", "#660082"),
  _class("deciduous", "feuillu", "#46e483"),
  _class("coniferous", "conifère", "#194a26"),
  _class("brushwood", "broussaille", "#f3a60d"),
  _class("clear cut", "coupe", "#8ab3a0", is_scored=False),
  _class("ligneous", "ligneux", "#c5dc42", is_scored=False),
  _class("mixed", "mixte", "#6b714f", is_scored=False),
  _class("undefined", "indéterminé", "#000000", is_scored=False),
)

_LPIS_LEVEL_1 = (
  _class("grasses", "herbe prédominante", "#92d050"),
  _class("wheat", "blé", "#d7e600"),
  _class("barley", "orge", "#e0e000"),
  _class("maize", "maïs", "#fff100"),
  _class("other cereals", "autres céréales", "#ffff00"),
  _class("rice", "riz", "#e8e8e8"),
  _class("flax/hemp/tobacco", "lin/chanvre/tabac", "#dceaf7"),
  _class("sunflower", "tournesol", "#d29ead"),
  _class("rapeseed", "colza", "#d29ed0"),
  _class("other oilseed crops", "autres oléagineux", "#ffbe99"),
  _class("soy", "soja", "#ffc000"),
  _class("other protein crops", "autres protéagineux", "#ff9000"),
  _class("fodder legumes", "légumineuses fourragères", "#009999"),
  _class("beetroots", "betterave", "#808000"),
  _class("potatoes", "pomme de terre", "#a7a700"),
  _class("other arable crops", "autres arables", "#89896d"),
  _class("vineyard", "vigne", "#f2cfee"),
  _class("olive groves", "oliveraie", "#6f6633"),
  _class("fruit orchards", "verger fruits", "#ac8141"),
  _class("nut orchards", "verger noix", "#996633"),
  _class("other permanent crops", "autres pérennes", "#80c1d7"),
  _class("mixed crops", "mélange", "#000000"),
  _class("background", "autres", "#000000"),
)

_LPIS_LEVEL_2 = (
  _crop("grasses", "#92d050", "grasses"),
  _crop("wheat", "#d7e600", "wheat"),
  _crop("barley", "#e0e000", "barley"),
  _crop("maize", "#fff100", "maize"),
  _crop("sorghum/millet", "#ffff00", "other cereals"),
  _crop("other winter cereals", "#ffff00", "other cereals"),
  _crop("other spring cereals", "#ffff00", "other cereals"),
  _crop("other cereals", "#ffff00", "other cereals"),
  _crop("rice", "#e8e8e8", "rice"),
  _crop("hemp/tobacco", "#dceaf7", "flax/hemp/tobacco"),
  _crop("flax", "#dceaf7", "flax/hemp/tobacco"),
  _crop("sunflower", "#d29ead", "sunflower"),
  _crop("rapeseed", "#d29ed0", "rapeseed"),
  _crop("other oilseed crops", "#ffbe99", "other oilseed crops"),
  _crop("soy", "#ffc000", "soy"),
  _crop("other protein crops", "#ff9000", "other protein crops"),
  _crop("alfalfa", "#009999", "fodder legumes"),
  _crop("other fodder legumes", "#009999", "fodder legumes"),
  _crop("beetroots", "#808000", "beetroots"),
  _crop("potatoes", "#a7a700", "potatoes"),
  _crop("fruits and vegetables", "#89896d", "other arable crops"),
  _crop("aromatic/medicinal plants", "#89896d", "other arable crops"),
  _crop("other arable crops", "#89896d", "other arable crops"),
  _crop("vineyard", "#f2cfee", "vineyard"),
  _crop("olive groves", "#6f6633", "olive groves"),
  _crop("fruit orchards", "#ac8141", "fruit orchards"),
  _crop("nut orchards", "#996633", "nut orchards"),
  _crop("lavandin", "#80c1d7", "other permanent crops"),
  _crop("other permanent crops", "#80c1d7", "other permanent crops"),
  _crop("mixed crops", "#000000", "mixed crops"),
  _crop("background", "#000000", "background"),
)

_LPIS_LEVEL_3 = (
  _crop("grasses monoculture", "#92d050", "grasses"),
  _crop("grasses mixture", "#92d050", "grasses"),
  _crop("winter wheat", "#d7e600", "wheat"),
  _crop("spring wheat", "#d7e600", "wheat"),
  _crop("winter barley", "#e0e000", "barley"),
  _crop("spring barley", "#e0e000", "barley"),
  _crop("maize", "#fff100", "maize"),
  _crop("sorghum", "#ffff00", "sorghum/millet"),
  _crop("millet / foxtail millet", "#ffff00", "sorghum/millet"),
  _crop("winter durum wheat", "#ffff00", "other winter cereals"),
  _crop("winter triticale", "#ffff00", "other winter cereals"),
  _crop("winter oat", "#ffff00", "other winter cereals"),
  _crop("winter rye", "#ffff00", "other winter cereals"),
  _crop("spring oat", "#ffff00", "other spring cereals"),
  _crop("other spring cereals", "#ffff00", "other spring cereals"),
  _crop("other cereals", "#ffff00", "other cereals"),
  _crop("rice", "#e8e8e8", "rice"),
  _crop("hemp/tobacco", "#dceaf7", "hemp/tobacco"),
  _crop("fiber flax", "#dceaf7", "flax"),
  _crop("other flax", "#dceaf7", "flax"),
  _crop("sunflower", "#d29ead", "sunflower"),
  _crop("rapeseed", "#d29ed0", "rapeseed"),
  _crop("mustard", "#ffbe99", "other oilseed crops"),
  _crop("other oilseed crops", "#ffbe99", "other oilseed crops"),
  _crop("soy", "#ffc000", "soy"),
  _crop("spring peas", "#ff9000", "other protein crops"),
  _crop("winter protein crops", "#ff9000", "other protein crops"),
  _crop("other protein crops", "#ff9000", "other protein crops"),
  _crop("alfalfa", "#009999", "alfalfa"),
  _crop("clover", "#009999", "other fodder legumes"),
  _crop("other fodder legumes", "#009999", "other fodder legumes"),
  _crop("beetroots", "#808000", "beetroots"),
  _crop("potatoes", "#a7a700", "potatoes"),
  _crop("fruits and vegetables", "#89896d", "fruits and vegetables"),
  _crop("aromatic/medicinal plants", "#89896d", "aromatic/medicinal plants"),
  _crop("buckwheat", "#89896d", "other arable crops"),
  _crop("other arable crops", "#89896d", "other arable crops"),
  _crop("vineyard", "#f2cfee", "vineyard"),
  _crop("olive groves", "#6f6633", "olive groves"),
  _crop("fruit orchards", "#ac8141", "fruit orchards"),
  _crop("nut orchards", "#996633", "nut orchards"),
  _crop("lavandin", "#80c1d7", "lavandin"),
  _crop("berries", "#80c1d7", "other permanent crops"),
  _crop("other permanent crops", "#80c1d7", "other permanent crops"),
  _crop("mixed crops", "#000000", "mixed crops"),
  _crop("background", "#000000", "background"),
)


def _lpis(id: str, title: str, band: int, classes, parent=None) -> LabelTask:
  return LabelTask(
    id=id,
    title=title,
    column="ALL_LABEL-LPIS",
    classes=classes,
    gsd=0.2,
    band=band,
    num_bands=3,
    parent=parent,
  )


_TASKS = (
  LabelTask(
    id="AERIAL_LABEL-COSIA", title="land cover", classes=_COSIA, gsd=0.2
  ),
  _lpis("ALL_LABEL-LPIS", "crops", 0, _LPIS_LEVEL_1),
  _lpis(
    "ALL_LABEL-LPIS-2", "crops, level 2", 1, _LPIS_LEVEL_2, "ALL_LABEL-LPIS"
  ),
  _lpis(
    "ALL_LABEL-LPIS-3", "crops, level 3", 2, _LPIS_LEVEL_3, "ALL_LABEL-LPIS-2"
  ),
)

FLAIR_HUB = Schema(name="FLAIR-HUB", sensors=_SENSORS, tasks=_TASKS)
