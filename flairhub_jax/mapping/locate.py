"""Rasters of a path, folder, glob, list or address."""

import glob
import os
import pathlib

from flairhub_jax.errors import InputError
from flairhub_jax.mapping import remote, vrt
from flairhub_jax.mapping.remote import RemotePath

_LISTS = (".txt", ".csv", ".lst")


def rasters(
  text: str, *, where: str, allow_remote: bool = False
) -> list[pathlib.Path | RemotePath]:
  """Returns the rasters of a path, folder, glob, list or address.

  Args:
    text: the path, folder, glob, list or address.
    where: the flag, for errors.
    allow_remote: whether addresses are allowed, also in lists and VRTs.

  Raises:
    InputError: a remote path without permission, or nothing of that name.
  """
  if allow_remote and remote.is_remote(text):
    return [remote.parse(text, where=where)]
  remote.check_local(text, where=where, flag=remote.FLAG)
  files = _local(text, where=where, allow_remote=allow_remote)
  for file in files:
    if isinstance(file, pathlib.Path) and file.suffix.lower() == ".vrt":
      vrt.check(file, allow_remote=allow_remote)
  return files


def _local(
  text: str, *, where: str, allow_remote: bool
) -> list[pathlib.Path | RemotePath]:
  """The rasters of a path, folder, glob or list."""
  files: list[pathlib.Path | RemotePath] = []
  path = pathlib.Path(text).expanduser()
  if path.is_dir():
    entries = sorted(path.rglob("*"))
    files += [
      file
      for file in entries
      if file.suffix.lower() in vrt.SUFFIXES and file.is_file()
    ]
    kinds = "*.tif, *.vrt, …"
    if not files:
      raise InputError(f"{where}: {path}", f"rasters ({kinds})", "none")
  elif path.is_file():
    is_list = path.suffix.lower() in _LISTS
    files += _listed(path, allow_remote) if is_list else [path]
  elif glob.has_magic(text):
    names = sorted(glob.glob(os.path.expanduser(text), recursive=True))
    files += [pathlib.Path(name) for name in names]
    if not files:
      raise InputError(where, f"files like {text}", "none")
  else:
    raise InputError(
      f"{where}: {text}",
      "a raster, a folder, a glob or a list of rasters",
      "no file of that name",
    )
  return files


def _listed(
  path: pathlib.Path, allow_remote: bool
) -> list[pathlib.Path | RemotePath]:
  """The rasters of a text file, a line each, relative to its folder."""
  try:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(path, "a list of rasters in UTF-8", error) from error
  files: list[pathlib.Path | RemotePath] = []
  for number, line in enumerate(lines, 1):
    name = line.strip().strip('"')
    if not name or name.startswith("#"):
      continue
    where = f"{path}, line {number}"
    if allow_remote and remote.is_remote(name):
      files.append(remote.parse(name, where=where))
      continue
    remote.check_local(name, where=where, flag=remote.FLAG)
    file = path.parent / name
    if not file.is_file():
      raise InputError(where, "a raster", f"no file {str(file)!r}")
    files.append(file)
  if not files:
    raise InputError(path, "a raster per line", "none")
  return files
