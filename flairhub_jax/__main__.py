"""The command line: `python -m flairhub_jax <command>`, or `flairhub`."""

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import sys
import traceback
import types
from collections.abc import Sequence
from typing import Any

from flairhub_jax import __version__, faults, terminal
from flairhub_jax.errors import InputError, RunError, StoppedEarly

# What schedulers take for a job to be queued again (EX_TEMPFAIL).
STOPPED_EARLY = 75
# Makes glibc (2.35 and later) ask Linux for huge pages.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"

# Library that only some commands need -> the extra that brings it.
_EXTRAS = {
  "jinja2": "report",
  "pandas": "report",
  "scipy": "report",
  "submitit": "slurm",
}

# A command is imported only when it is called: most need no network.
COMMANDS = {
  "simulate": "write a data set in the published layout",
  "convert": "turn GeoTIFFs into records",
  "train": "train a network, or continue an interrupted run",
  "sweep": "train and evaluate many runs, here or on SLURM",
  "bench": "measure the speed of training or of the forward pass",
  "describe": "count parameters, operations and memory of a network",
  "evaluate": "score a run on a split",
  "report": "compare runs: tables, figures and one page",
  "predict": "write a georeferenced class map per patch",
  "import-weights": "turn a checkpoint of the reference into a run directory",
  "export-weights": "write a run's weights as the reference loads them",
  "import-encoder": "read an ImageNet encoder of timm or torchvision",
}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command.

  Returns:
    Exit code: 0 done, 1 a run diverged or the disk failed, 2 what the user
    gave is wrong, 75 saved and stopped by SIGTERM or SIGUSR1, 130 interrupted.
    Faults of ours end in a traceback and code 1.
  """
  argv = list(sys.argv[1:] if argv is None else argv)
  parser = argparse.ArgumentParser(
    "flairhub", description="Land-cover and crop mapping from many sensors."
  )
  parser.add_argument("--version", action="version", version=__version__)
  menu = parser.add_subparsers(dest="command", required=True)
  for name, text in COMMANDS.items():
    command = menu.add_parser(
      name, help=text, description=text, allow_abbrev=False
    )
    verbosity = command.add_mutually_exclusive_group()
    verbosity.add_argument(
      "-q", "--quiet", action="store_true", help="no progress, no log lines"
    )
    verbosity.add_argument(
      "-v",
      "--verbose",
      action="store_true",
      help="also the log messages of libraries",
    )
    if argv[:1] == [name]:
      module = _import_command(name, command)
      module.add_arguments(command)
  args, rest = parser.parse_known_args(argv)
  for name, value in vars(args).items():
    setattr(args, name, _expanded(value))
  args.overrides = [word for word in rest if word.startswith("--config.")]
  surplus = [word for word in rest if word not in args.overrides]
  takes_overrides = args.command in ("train", "sweep", "bench", "describe")
  if surplus or (args.overrides and not takes_overrides):
    parser.error(f"unrecognized arguments: {' '.join(rest)}")
  terminal.set_verbosity(quiet=args.quiet, verbose=args.verbose)
  try:
    return module.run(args)
  except StoppedEarly as stop:
    # Of several processes all stop at one step: none has to tell the others.
    print(f"flairhub {args.command}: {stop}", file=sys.stderr)
    return STOPPED_EARLY
  except (InputError, RunError, OSError, KeyboardInterrupt) as error:
    code, line = 1, str(error)  # The disk is full, a file is gone.
    if isinstance(error, InputError):
      code = 2
    elif isinstance(error, KeyboardInterrupt):
      code, line = 130, "interrupted"
    own = f"flairhub {args.command}: {line}"
    faults.end(code, error, line=line, own=own)
    print(own, file=sys.stderr)
    return code
  except Exception as error:
    line = f"{type(error).__name__}: {error}"
    faults.end(1, error, line=line, own=traceback.format_exc())
    raise


def _import_command(
  name: str, parser: argparse.ArgumentParser
) -> types.ModuleType:
  """The module of a command; ends with a line if an extra is not installed."""
  try:
    return importlib.import_module(
      f"flairhub_jax.commands.{name.replace('-', '_')}"
    )
  except ModuleNotFoundError as error:
    library = (error.name or "").partition(".")[0]
    if library not in _EXTRAS:
      raise
    extra = f"flairhub_jax[{_EXTRAS[library]}]"
    parser.exit(1, f"flairhub {name}: needs {library}: pip install '{extra}'\n")


def _expanded(value: Any) -> Any:
  """A flag's value with `~` expanded, which shells leave after `--flag=`."""
  if isinstance(value, list):
    return [_expanded(one) for one in value]
  if isinstance(value, str | pathlib.Path) and str(value).startswith("~"):
    return type(value)(os.path.expanduser(value))
  return value


def start() -> int:
  """Runs `main` on the shell's arguments; on CPUs in one with huge pages.

  On a CPU a step of training touches gigabytes anew; with pages of 2 MB instead
  of 4 kB it is up to 1.25 times faster (experiments/speed). glibc reads its
  tunables before Python runs, so the process starts over once, as itself.
  """
  tunables = os.environ.get("GLIBC_TUNABLES", "")
  is_told = "glibc.malloc.hugetlb" in tunables
  if sys.platform == "linux" and not is_told and _finds_only_cpus():
    tunables = f"{tunables}:{_HUGE_PAGES}" if tunables else _HUGE_PAGES
    os.environ["GLIBC_TUNABLES"] = tunables
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
  return main()


def _finds_only_cpus() -> bool:
  """Whether JAX can find no accelerator; it is neither imported nor started."""
  platforms = os.environ.get("JAX_PLATFORMS", "")
  if platforms:
    return platforms.split(",")[0] == "cpu"
  # Where JAX looks for what drives them.
  return not (
    importlib.util.find_spec("jax_plugins")
    or importlib.util.find_spec("libtpu")
    or importlib.metadata.entry_points(group="jax_plugins")
  )


if __name__ == "__main__":
  sys.exit(start())
