"""Rasters that GDAL reads from elsewhere, after an explicit permission."""

import dataclasses
import pathlib
import re

from flairhub_jax.errors import InputError

# The permission, as the user gives it.
FLAG = "--allow-remote"
# Options of GDAL: no listing of the folder, no endless wait.
OPTIONS = {
  "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
  "GDAL_HTTP_CONNECTTIMEOUT": "20",
  "GDAL_HTTP_TIMEOUT": "120",
  "GDAL_HTTP_MAX_RETRY": "3",
}
# Kinds of addresses -> the file system of GDAL that reads them.
_FILE_SYSTEMS = {
  "http://": "/vsicurl/http://",
  "https://": "/vsicurl/https://",
  "s3://": "/vsis3/",
  "gs://": "/vsigs/",
  "az://": "/vsiaz/",
}
SYSTEMS = ("/vsicurl/http", "/vsis3/", "/vsigs/", "/vsiaz/")
_REMOTE = re.compile(r"^\s*(/vsi|[A-Za-z][A-Za-z0-9+.-]+://)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class RemotePath:
  """A raster elsewhere.

  Attributes:
    text: as the user wrote it.
    gdal_name: as GDAL reads it.
  """

  text: str
  gdal_name: str

  @property
  def name(self) -> str:
    """The last part of the path, without a query."""
    return pathlib.PurePosixPath(self.text.partition("?")[0]).name

  @property
  def suffix(self) -> str:
    """End of the name, with its point."""
    return pathlib.PurePosixPath(self.name).suffix

  def __str__(self) -> str:
    return self.text


def is_remote(text: str) -> bool:
  """Whether GDAL would read a path from elsewhere than the file system."""
  return bool(_REMOTE.match(text))


def check_local(text: str, *, where: str, flag: str = "") -> None:
  """Refuses paths that GDAL would read from elsewhere.

  Args:
    text: the path.
    where: names its place in errors.
    flag: that would allow it, if any.

  Raises:
    InputError: it is one.
  """
  if is_remote(text):
    expected = "a path on this machine" + (f", or {flag}" if flag else "")
    raise InputError(where, expected, f"the remote {text!r}")


def parse(text: str, *, where: str) -> RemotePath:
  """Reads the address of a raster.

  Raises:
    InputError: a protocol that is not known, or a virtual raster, whose sources
      cannot be checked there.
  """
  text = text.strip()
  gdal_name = text
  for start, system in _FILE_SYSTEMS.items():
    if text.lower().startswith(start):
      gdal_name = system + text[len(start) :]
  path = RemotePath(text, gdal_name)
  if not gdal_name.lower().startswith(SYSTEMS):
    known = ", ".join((*_FILE_SYSTEMS, *SYSTEMS[1:]))
    raise InputError(where, f"an address that begins with {known}", repr(text))
  if path.suffix.lower() == ".vrt":
    raise InputError(where, "a raster, or a local VRT of them", repr(text))
  return path
