"""Atomic files: write to a temporary file, fsync, rename."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def write_aside(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a temporary path beside `path`, which is renamed to `path`.

  The file is flushed to disk and renamed when the block ends without an
  exception; otherwise it is removed and `path` is unchanged. The temporary name
  has the same suffix, because some writers choose the format by it.
  """
  path = pathlib.Path(path)
  aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
  try:
    yield aside
    with open(aside, "rb") as file:
      os.fsync(file.fileno())
    os.replace(aside, path)
  finally:
    aside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes `text` (UTF-8) to `path` atomically."""
  with write_aside(path) as aside:
    aside.write_text(text, encoding="utf-8")
