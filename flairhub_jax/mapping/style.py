"""Colours and names of classes for GDAL, QGIS and map servers, as XML."""

import pathlib
from xml.sax.saxutils import escape, quoteattr

from flairhub_jax import atomic
from flairhub_jax.schema import LabelTask

# Columns of the attribute table: name, GDAL's type (0 integer, 2 text), and
# its use (5 value, 2 name, 6-9 red, green, blue, alpha).
_COLUMNS = (
  ("Value", 0, 5),
  ("Class", 2, 2),
  ("Red", 0, 6),
  ("Green", 0, 7),
  ("Blue", 0, 8),
  ("Alpha", 0, 9),
)


def band_content(task: LabelTask) -> str:
  """Colour table, category names and attribute table of a virtual raster."""
  colours = [(*map(int, row), 255) for row in task.palette]
  colours += [(0, 0, 0, 0)] * (256 - len(colours))
  entries = "".join(
    f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{a}"/>' for r, g, b, a in colours
  )
  names = "".join(
    f"<Category>{escape(name)}</Category>" for name in task.class_names
  )
  return (
    "<ColorInterp>Palette</ColorInterp>"
    f"<CategoryNames>{names}</CategoryNames>"
    f"<ColorTable>{entries}</ColorTable>{_attribute_table(task)}"
  )


def _attribute_table(task: LabelTask) -> str:
  columns = "".join(
    f'<FieldDefn index="{index}"><Name>{name}</Name><Type>{kind}</Type>'
    f"<Usage>{use}</Usage></FieldDefn>"
    for index, (name, kind, use) in enumerate(_COLUMNS)
  )
  rows = ""
  for value, each in enumerate(task.classes):
    cells = (value, escape(each.name), *task.palette[value], 255)
    content = "".join(f"<F>{cell}</F>" for cell in cells)
    rows += f'<Row index="{value}">{content}</Row>'
  return (
    '<GDALRasterAttributeTable tableType="thematic">'
    f"{columns}{rows}</GDALRasterAttributeTable>"
  )


def write_qml(out: pathlib.Path, task: LabelTask) -> None:
  """Writes a style of QGIS."""
  entries = "".join(
    f'<paletteEntry value="{value}" color="{each.colour}" alpha="255"'
    f" label={quoteattr(each.name)}/>"
    for value, each in enumerate(task.classes)
  )
  atomic.write_text(
    out,
    "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    '<qgis styleCategories="Symbology" version="3.28"><pipe>'
    '<rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1"'
    ' nodataColor=""><rasterTransparency/>'
    f"<colorPalette>{entries}</colorPalette></rasterrenderer>"
    "</pipe><blendMode>0</blendMode></qgis>\n",
  )


def write_sld(out: pathlib.Path, task: LabelTask) -> None:
  """Writes a Styled Layer Descriptor 1.0 (OGC 02-070), for map servers."""
  name = escape(task.short_name)
  entries = "".join(
    f'<ColorMapEntry color="{each.colour}" quantity="{value}"'
    f' label={quoteattr(each.name)} opacity="1"/>'
    for value, each in enumerate(task.classes)
  )
  atomic.write_text(
    out,
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<StyledLayerDescriptor version="1.0.0"'
    ' xmlns="http://www.opengis.net/sld">'
    f"<NamedLayer><Name>{name}</Name><UserStyle><Title>{name}</Title>"
    "<FeatureTypeStyle><Rule><RasterSymbolizer><Opacity>1</Opacity>"
    f'<ColorMap type="values">{entries}</ColorMap>'
    "</RasterSymbolizer></Rule></FeatureTypeStyle></UserStyle></NamedLayer>"
    "</StyledLayerDescriptor>\n",
  )
