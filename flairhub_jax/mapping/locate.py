"""From what a user names to the raster files that it stands for."""

import glob
import os
import pathlib
import re
import xml.etree.ElementTree as ElementTree

from flairhub_jax.errors import InputError

# Files of a folder that are rasters, by the ends of their names.
_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".png", ".jpg", ".jpeg")
_LISTS = (".txt", ".csv", ".lst")
_REMOTE = re.compile(r"^\s*(/vsi|[A-Za-z][A-Za-z0-9+.-]+://)")


def rasters(text: str, *, where: str) -> list[pathlib.Path]:
  """Returns the raster files that a path, folder, glob or list stands for.

  Args:
    text: what the user wrote.
    where: the flag, for errors.

  Raises:
    InputError: a remote path, or nothing of that name.
  """
  check_local(text, where=where)
  path = pathlib.Path(text).expanduser()
  if path.is_dir():
    found = sorted(
      file
      for file in path.rglob("*")
      if file.suffix.lower() in _SUFFIXES and file.is_file()
    )
    kinds = "*.tif, *.vrt, …"
    if not found:
      raise InputError(f"{where}: {path}", f"rasters ({kinds})", "none")
  elif path.is_file():
    is_list = path.suffix.lower() in _LISTS
    found = _listed(path) if is_list else [path]
  elif glob.has_magic(text):
    names = sorted(glob.glob(os.path.expanduser(text), recursive=True))
    found = [pathlib.Path(name) for name in names]
    if not found:
      raise InputError(where, f"files like {text}", "none")
  else:
    raise InputError(
      f"{where}: {text}",
      "a raster, a folder, a glob or a list of rasters",
      "no file of that name",
    )
  for file in found:
    if file.suffix.lower() == ".vrt":
      _check_vrt(file, set())
  return found


def check_local(text: str, *, where: str) -> None:
  """Refuses paths that GDAL would read from elsewhere.

  Raises:
    InputError: it is one.
  """
  if _REMOTE.match(text):
    raise InputError(where, "a path on this machine", f"the remote {text!r}")


def _listed(path: pathlib.Path) -> list[pathlib.Path]:
  """The rasters of a text file, a line each, relative to its folder."""
  try:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(path, "a list of rasters in UTF-8", error) from error
  found = []
  for number, line in enumerate(lines, 1):
    name = line.strip().strip('"')
    if not name or name.startswith("#"):
      continue
    check_local(name, where=f"{path}, line {number}")
    file = path.parent / name
    if not file.is_file():
      raise InputError(
        f"{path}, line {number}", "a raster", f"no file {str(file)!r}"
      )
    found.append(file)
  if not found:
    raise InputError(path, "a raster per line", "none")
  return found


def _check_vrt(path: pathlib.Path, seen: set[pathlib.Path]) -> None:
  """Refuses a VRT that reads from elsewhere, and VRTs within it that do."""
  seen.add(path.resolve())
  try:
    root = ElementTree.parse(path).getroot()
  except (OSError, ElementTree.ParseError) as error:
    raise InputError(path, "a readable VRT", error) from error
  for element in root.iter():
    if not element.tag.startswith("Source") or not (element.text or "").strip():
      continue
    name = element.text.strip()
    if element.tag not in ("SourceFilename", "SourceDataset"):
      continue
    check_local(name, where=str(path))
    inner = path.parent / name
    if inner.suffix.lower() == ".vrt" and inner.is_file():
      if inner.resolve() not in seen:
        _check_vrt(inner, seen)
