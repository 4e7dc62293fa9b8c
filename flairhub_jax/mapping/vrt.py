"""Checks which rasters virtual ones (VRT) read: local ones, or as permitted.

GDAL opens the sources of a VRT with any driver: a name may be a web service, a
description of one, or an archive. A source must therefore be a file of a known
format, by its name and by its first bytes.
"""

import os
import pathlib
import re
import xml.etree.ElementTree as ElementTree

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import remote
from flairhub_jax.mapping.remote import RemotePath

# First bytes of files by the ends of their names; VRTs are parsed instead.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG = (b"\xff\xd8\xff",)
_SIGNATURES = {
  ".tif": _TIFF,
  ".tiff": _TIFF,
  ".jp2": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
  ".png": (b"\x89PNG\r\n\x1a\n",),
  ".jpg": _JPEG,
  ".jpeg": _JPEG,
}
# Ends of the names of rasters.
SUFFIXES = (".vrt", *_SIGNATURES)
_MAX_BYTES = 64 << 20
# `WMS:…`, `NETCDF:…`; a single letter is a drive of Windows.
_PREFIX = re.compile(r"^[A-Za-z][A-Za-z0-9_+.-]+:")
# GDAL compares names of elements and attributes without case.
_SOURCES = {"sourcefilename", "sourcedataset"}
# Elements and keys by which a VRT names further files.
_FURTHER_FILES = {"openoptions", "processingsteps", "dempath", "rpc_dem"}
_FURTHER_FILES |= {"x_dataset", "y_dataset"}


def check(
  path: pathlib.Path, *, allow_remote: bool = False
) -> list[pathlib.Path | RemotePath]:
  """Checks a VRT, and the VRTs among its sources.

  Args:
    path: the VRT.
    allow_remote: whether sources may be addresses of rasters elsewhere.

  Returns:
    The files that they name.

  Raises:
    InputError: one is no VRT, larger than 64 MiB, declares a document type or
      entities, or has a source that is no raster, or none on this machine.
  """
  stack, paths = [path], {path.resolve()}
  files = []
  while stack:
    for source in _sources(stack.pop(), allow_remote):
      files.append(source)
      if isinstance(source, RemotePath) or source.suffix.lower() != ".vrt":
        continue
      if source.resolve() not in paths:
        paths.add(source.resolve())
        stack.append(source)
  return files


def _sources(
  path: pathlib.Path, allow_remote: bool
) -> list[pathlib.Path | RemotePath]:
  """The files that a VRT reads."""
  sources = []
  for element in _parse(path).iter():
    tag = _name(element.tag)
    attributes = {*map(_name, element.attrib)}
    keys = {_name(element.get(key, "")) for key in ("key", "name")}
    names = {tag, *attributes, *keys} & _FURTHER_FILES | attributes & _SOURCES
    if names:
      raise InputError(
        path,
        "a VRT whose only files are elements SourceFilename or SourceDataset",
        min(names),
      )
    if tag in _SOURCES:
      sources.append(_source(path, element, allow_remote))
  return sources


def _parse(path: pathlib.Path) -> ElementTree.Element:
  try:
    with open(path, "rb") as file:
      data = file.read(_MAX_BYTES + 1)
  except OSError as error:
    raise InputError(path, "a readable VRT", error) from error
  if len(data) > _MAX_BYTES:
    raise InputError(path, f"a VRT of at most {_MAX_BYTES >> 20} MiB", "more")
  try:
    text = data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise InputError(path, "a VRT in UTF-8", error) from error
  for word in ("<!DOCTYPE", "<!ENTITY"):
    # Entities may be expanded to gigabytes, or name other files.
    if word in text.upper():
      raise InputError(path, "a VRT without DOCTYPE and ENTITY", f"{word}…")
  try:
    return ElementTree.fromstring(text)
  except ElementTree.ParseError as error:
    raise InputError(path, "a readable VRT", error) from error


def _name(text: str) -> str:
  """Name of an element or attribute without namespace, in lower case."""
  return text.rpartition("}")[2].rpartition(":")[2].lower()


def _source(
  path: pathlib.Path, element: ElementTree.Element, allow_remote: bool
) -> pathlib.Path | RemotePath:
  """The raster that an element of a VRT names."""
  source = "".join(element.itertext()).strip()
  if allow_remote and remote.is_remote(source):
    return _remote_source(path, element, source)
  remote.check_local(source, where=str(path), flag=remote.FLAG)
  flags = {_name(key): value for key, value in element.attrib.items()}
  is_relative = flags.get("relativetovrt", "0")
  # GDAL takes other names as relative to the current folder.
  file = path.parent / source if is_relative == "1" else pathlib.Path(source)
  if (
    len(element)
    or is_relative not in ("0", "1")
    or _PREFIX.match(source)
    or not _is_raster(file)
  ):
    kinds = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
    raise InputError(
      path, f"sources that are local rasters ({kinds})", repr(source[:200])
    )
  return file


def _remote_source(path, element, source: str) -> RemotePath:
  """Refuses sources elsewhere that GDAL might not read as a raster."""
  if len(element) or not source.startswith(remote.SYSTEMS):
    systems = ", ".join(remote.SYSTEMS)
    raise InputError(path, f"sources that begin with {systems}", repr(source))
  file = remote.parse(source, where=str(path))
  if file.suffix.lower() not in _SIGNATURES:
    kinds = ", ".join(f"*{suffix}" for suffix in _SIGNATURES)
    raise InputError(path, f"sources elsewhere ({kinds})", repr(source[:200]))
  return file


def _is_raster(file: pathlib.Path) -> bool:
  """Whether a file exists and has a known format."""
  suffix = file.suffix.lower()
  try:
    if suffix not in SUFFIXES or not os.path.isfile(file):
      return False
    if suffix == ".vrt":
      return True
    with open(file, "rb") as content:
      return content.read(16).startswith(_SIGNATURES[suffix])
  except (OSError, ValueError):  # a name with a null character
    return False
