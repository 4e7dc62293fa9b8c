"""Raster files of a path, folder, glob or list."""

import glob
import os
import pathlib

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import vrt

_LISTS = (".txt", ".csv", ".lst")


def rasters(text: str, *, where: str) -> list[pathlib.Path]:
  """Returns the raster files of a path, folder, glob or list.

  Args:
    text: the path, folder, glob or list.
    where: the flag, for errors.

  Raises:
    InputError: a remote path, or nothing of that name.
  """
  vrt.check_local(text, where=where)
  path = pathlib.Path(text).expanduser()
  if path.is_dir():
    files = sorted(
      file
      for file in path.rglob("*")
      if file.suffix.lower() in vrt.SUFFIXES and file.is_file()
    )
    kinds = "*.tif, *.vrt, …"
    if not files:
      raise InputError(f"{where}: {path}", f"rasters ({kinds})", "none")
  elif path.is_file():
    is_list = path.suffix.lower() in _LISTS
    files = _listed(path) if is_list else [path]
  elif glob.has_magic(text):
    names = sorted(glob.glob(os.path.expanduser(text), recursive=True))
    files = [pathlib.Path(name) for name in names]
    if not files:
      raise InputError(where, f"files like {text}", "none")
  else:
    raise InputError(
      f"{where}: {text}",
      "a raster, a folder, a glob or a list of rasters",
      "no file of that name",
    )
  for file in files:
    if file.suffix.lower() == ".vrt":
      vrt.check(file)
  return files


def _listed(path: pathlib.Path) -> list[pathlib.Path]:
  """The rasters of a text file, a line each, relative to its folder."""
  try:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(path, "a list of rasters in UTF-8", error) from error
  files = []
  for number, line in enumerate(lines, 1):
    name = line.strip().strip('"')
    if not name or name.startswith("#"):
      continue
    vrt.check_local(name, where=f"{path}, line {number}")
    file = path.parent / name
    if not file.is_file():
      raise InputError(
        f"{path}, line {number}", "a raster", f"no file {str(file)!r}"
      )
    files.append(file)
  if not files:
    raise InputError(path, "a raster per line", "none")
  return files
