"""Progress and log lines, with and without a terminal."""

import io
import logging
import sys

import pytest

from flairhub_jax import terminal


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def quiet():
  terminal.set_verbosity(quiet=True)
  yield
  terminal.set_verbosity()


def work(monkeypatch, file, seconds=0.0):
  """What a bar of three units writes, `seconds` a unit."""
  now = [1000.0]
  monkeypatch.setattr(sys, "stderr", file)
  with terminal.progress_bar(total=3, desc="work", unit="patch") as bar:
    bar._time = lambda: now[0]
    bar.start_t = bar.last_print_t = now[0]
    for _ in range(3):
      now[0] += seconds
      bar.update()
  return file.getvalue()


def test_a_terminal_shows_a_bar_that_moves(monkeypatch):
  text = work(monkeypatch, Terminal(), seconds=1.0)
  assert "\r" in text and "3/3" in text and "patch/s" in text


def test_elsewhere_progress_is_a_line_every_30_seconds(monkeypatch):
  text = work(monkeypatch, io.StringIO(), seconds=40.0)
  assert "\r" not in text
  lines = text.splitlines()
  assert 2 <= len(lines) <= 4 and all("work" in line for line in lines)
  assert "1/3" in lines[0] and "3/3" in lines[-1]


def test_short_work_elsewhere_shows_nothing(monkeypatch):
  assert work(monkeypatch, io.StringIO(), seconds=1.0) == ""


def test_quiet_shows_neither_bars_nor_log_lines(monkeypatch, quiet):
  assert work(monkeypatch, Terminal(), seconds=40.0) == ""
  terminal.print_line("step 3")
  assert sys.stderr.getvalue() == ""


def test_log_lines_are_plain_lines(monkeypatch):
  monkeypatch.setattr(sys, "stderr", io.StringIO())
  terminal.print_line("step 3")
  assert sys.stderr.getvalue() == "step 3\n"


@pytest.fixture
def loggers():
  """Loggers by name ("" is the root), as they were at the end again."""
  names = ("", "absl", "asyncio", "rasterio")
  actual = {name: logging.getLogger(name) for name in names}
  levels = {name: logger.level for name, logger in actual.items()}
  handlers = list(logging.root.handlers)
  yield actual
  logging.root.handlers[:] = handlers
  for name, logger in actual.items():
    logger.setLevel(levels[name])


def test_libraries_log_only_when_asked(monkeypatch, loggers):
  for name in ("absl", "asyncio", "rasterio"):
    loggers[name].setLevel(logging.NOTSET)
  file = io.StringIO()
  monkeypatch.setattr(sys, "stderr", file)
  # A library that set up the root logger when it was imported.
  logging.root.addHandler(logging.StreamHandler(io.StringIO()))
  terminal.set_verbosity(verbose=True)
  loggers["absl"].info("saved in 3 s")
  assert "INFO absl: saved in 3 s" in file.getvalue()
  terminal.set_verbosity()
  loggers["absl"].error("a thread failed")
  assert "a thread failed" not in file.getvalue()
