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

# Schedulers requeue a job with this exit code (EX_TEMPFAIL).
STOPPED_EARLY = 75
# Enables huge pages in glibc 2.35 and later.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"

# Optional library -> the extra that installs it.
_EXTRAS = {
  "pandas": "report",
}

# Only the module of the given command is imported.
COMMANDS = {
  "simulate": "write a simulated data set in the published layout",
  "schema": "derive the schema of your own data from their files, or print a"
  " shipped one",
  "convert": "check every file of a data set and write sharded records; all"
  " faults are reported at once",
  "describe": "parameters, FLOPs and memory of a network, part by part",
  "train": "train a network, or continue the run in --workdir",
  "evaluate": "score a run on a split: table, JSON, confusion matrices, maps;"
  " --subsets all scores every subset of the modalities",
  "predict": "write a georeferenced GeoTIFF of classes per patch; no labels"
  " needed",
  "contract": "what a run expects of rasters: bands, types, units, statistics",
  "zonal": "map a whole region from rasters of any size and grid",
  "sweep": "train and evaluate many runs, on this machine or on SLURM;"
  " continues unfinished ones",
  "report": "compare runs: tables, figures and one HTML page, with intervals"
  " over seeds",
  "bench": "time training steps or forward passes: compile time, step time,"
  " patches/s, FLOPs, memory",
  "import-weights": "convert a checkpoint of the reference to a run directory",
  "export-weights": "write a run as a checkpoint and YAML of the reference",
  "export": "write a network with its weights as one file of StableHLO, which"
  " JAX runs without this software",
  "import-encoder": "convert an ImageNet checkpoint of timm to initial weights"
  " of an image encoder",
}

_EXAMPLES = """\
from GeoTIFFs to scores and maps:
  flairhub convert --train TRAIN.csv --valid VALID.csv --test TEST.csv \\
      --out DATA
  flairhub train --config=benchmark:LC-D --workdir=RUN \\
      --config.data.path=DATA
  flairhub evaluate --run RUN
  flairhub predict --run RUN --out MAPS

`flairhub COMMAND --help` lists the flags of a command. Any field of a
configuration (configs/base.py) is set by --config.section.field=value.

exit codes: 0 done; 1 failure of the run or the machine; 2 invalid input, one
line; 75 saved and stopped by SIGTERM or SIGUSR1; 130 interrupted by Ctrl-C.
After 75 and 130 the same command continues the run.
"""


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command.

  Returns:
    Exit code: 0 done, 1 a run diverged or the machine failed, 2 wrong input, 75
    saved and stopped by SIGTERM or SIGUSR1, 130 interrupted. Defects of the
    software end with a traceback and code 1.
  """
  module, args = _parse(list(sys.argv[1:] if argv is None else argv))
  try:
    return module.run(args)
  except StoppedEarly as stop:
    # All processes of a job stop at the same step, so this is no failure.
    print(f"flairhub {args.command}: {stop}", file=sys.stderr)
    return STOPPED_EARLY
  except (Exception, KeyboardInterrupt) as error:
    code, line, is_defect = _outcome(error)
    own = f"flairhub {args.command}: {line}"
    if is_defect:
      own = traceback.format_exc()
    faults.end(code, error, line=line, own=own)
    if is_defect:
      raise
    print(own, file=sys.stderr)
    return code


def _parse(argv: list[str]) -> tuple[types.ModuleType, argparse.Namespace]:
  """Returns the module of the command and its flags; sets the verbosity."""
  parser = argparse.ArgumentParser(
    "flairhub",
    description="Land-cover and crop mapping from many sensors.",
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--version", action="version", version=__version__)
  menu = parser.add_subparsers(
    dest="command", required=True, title="commands", metavar="COMMAND"
  )
  for name, text in COMMANDS.items():
    command = menu.add_parser(
      name, help=text, description=text, allow_abbrev=False
    )
    verbosity = command.add_mutually_exclusive_group()
    verbosity.add_argument(
      "-q",
      "--quiet",
      action="store_true",
      help="no progress bars and no log lines",
    )
    verbosity.add_argument(
      "-v",
      "--verbose",
      action="store_true",
      help="include the log messages of libraries",
    )
    if argv[:1] == [name]:
      module = _import_command(name, command)
      module.add_arguments(command)
  args, rest = parser.parse_known_args(argv)
  for name, value in vars(args).items():
    setattr(args, name, _expanded(value))
  args.overrides = [flag for flag in rest if flag.startswith("--config.")]
  unknown = [flag for flag in rest if flag not in args.overrides]
  has_overrides = args.command in ("train", "sweep", "bench", "describe")
  if unknown or (args.overrides and not has_overrides):
    parser.error(f"unrecognized arguments: {' '.join(rest)}")
  terminal.set_verbosity(quiet=args.quiet, verbose=args.verbose)
  return module, args


def _outcome(error: BaseException) -> tuple[int, str, bool]:
  """Returns exit code and line of a failure, and whether it is a defect."""
  if isinstance(error, KeyboardInterrupt):
    return 130, "interrupted", False
  if isinstance(error, InputError):
    return 2, str(error), False
  if isinstance(error, RunError | OSError):
    return 1, str(error), False  # such as a full disk
  # XLA's errors are matched by text, as their class would import JAX.
  if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
    reason = next(iter(str(error).splitlines()), "")
    return 1, f"out of memory: {reason}".removesuffix(": "), False
  return 1, f"{type(error).__name__}: {error}", True


def _import_command(
  name: str, parser: argparse.ArgumentParser
) -> types.ModuleType:
  """Imports the module of a command; exits if an extra is not installed."""
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
  """Expands `~`, as shells do not after `--flag=`."""
  if isinstance(value, list):
    return [_expanded(one) for one in value]
  if isinstance(value, str | pathlib.Path) and str(value).startswith("~"):
    return type(value)(os.path.expanduser(value))
  return value


def start() -> int:
  """Runs `main` on the shell's arguments, on CPUs with huge pages.

  A training step on a CPU allocates gigabytes; with pages of 2 MB instead of
  4 kB it is up to 1.25 times faster (experiments/speed). glibc reads its
  tunables before Python runs, so the process executes itself once more.
  """
  tunables = os.environ.get("GLIBC_TUNABLES", "")
  is_set = "glibc.malloc.hugetlb" in tunables
  if sys.platform == "linux" and not is_set and _has_only_cpus():
    tunables = f"{tunables}:{_HUGE_PAGES}" if tunables else _HUGE_PAGES
    os.environ["GLIBC_TUNABLES"] = tunables
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
  faults.end_with_parent()
  return main()


def _has_only_cpus() -> bool:
  """Whether JAX has no accelerator plugin, without importing JAX."""
  platforms = os.environ.get("JAX_PLATFORMS", "")
  if platforms:
    return platforms.split(",")[0] == "cpu"
  # Locations where JAX searches for plugins.
  return not (
    importlib.util.find_spec("jax_plugins")
    or importlib.util.find_spec("libtpu")
    or importlib.metadata.entry_points(group="jax_plugins")
  )


if __name__ == "__main__":
  sys.exit(start())
