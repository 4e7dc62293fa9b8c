"""Reads files that were corrupted at random, and records the outcome.

    python -m experiments.robustness.fuzz experiments/robustness [CASES]
    python -m experiments.robustness.fuzz case NUMBER

Every case takes one file that the software reads, corrupts it, and reads it as
the commands do, in a separate process. It must succeed or end with one line
(`InputError`, code 2; `RunError` or `OSError`, code 1), within 20 s and 2 GiB
of additional memory. A case depends only on its number; the second form repeats
one and shows its traceback. An interrupted run continues where it stopped.
"""

import collections
import contextlib
import io
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import tqdm

from experiments.robustness import seeds, spoil
from flairhub_jax import atomic
from flairhub_jax.errors import InputError, RunError

SEED = 17
SECONDS = 20  # that a case may take
BYTES = 2 * 2**30  # that a case may take beyond what the process has
BLOCK = 100  # cases between two saves of the record

# Kinds of consecutive cases. Orbax is by far the slowest.
KINDS = (
  "GeoTIFF", "records", "dataset.json", "config.json", "CSV", "safetensors",
  "YAML", "GeoPackage", "GeoTIFF", "records", "dataset.json", "config.json",
  "CSV", "safetensors", "YAML", "GeoPackage", "schema", "checkpoint",
)  # fmt: skip


def do_case(
  kinds: Mapping[str, seeds.Kind], number: int, folder: pathlib.Path
) -> str:
  """Corrupts one file and reads it.

  Returns:
    The outcome: "read", "refused" (code 2) or "failed" (code 1).

  Raises:
    Exception: any that the commands would not have caught.
  """
  rng = np.random.default_rng((SEED, number))
  source = kinds[KINDS[number % len(KINDS)]]
  shutil.copytree(source.folder, folder)
  files = sorted(path for path in folder.glob(source.files) if path.is_file())
  victim = files[rng.integers(len(files))]
  victim.write_bytes(spoil.spoil(victim.read_bytes(), victim.suffix, rng))
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      source.read(folder)
  except InputError as error:
    if not all(line.isprintable() for line in str(error).splitlines()):
      raise AssertionError("an error message that is not printable") from error
    return "refused"
  except (RunError, OSError):
    return "failed"
  return "read"


def _work(connection: Any, whole: pathlib.Path) -> None:
  """Runs the cases whose numbers it receives, until it receives None."""
  kinds = seeds.kinds(whole)
  connection.send("ready")
  # Libraries in C write to the file, not to Python's object.
  os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
  _limit_memory()
  while (number := connection.recv()) is not None:
    with tempfile.TemporaryDirectory() as folder:
      try:
        ended = do_case(kinds, number, pathlib.Path(folder) / "case")
      except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{pathlib.Path(where.filename).name}:{where.lineno}"
        ended = f"fault: {type(error).__name__} at {place}: {error}"[:300]
    connection.send(ended)


def _limit_memory() -> None:
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
  limit = pages * resource.getpagesize() + BYTES
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class Worker:
  """A process that runs one case after the other."""

  def __init__(self, whole: pathlib.Path):
    """Starts it; a forked one would lack the threads of the libraries."""
    context = multiprocessing.get_context("spawn")
    self._here, there = context.Pipe()
    self._process = context.Process(
      target=_work, args=(there, whole), daemon=True
    )
    self._process.start()
    there.close()
    try:
      self._here.recv()
    except EOFError as error:
      self._process.join()
      code = self._process.exitcode
      raise RuntimeError(f"the worker ended with {code}") from error

  def do(self, number: int) -> str:
    """Outcome of a case; a hang or a crash ends the worker."""
    self._here.send(number)
    if not self._here.poll(SECONDS):
      return f"fault: took more than {SECONDS} s"
    try:
      return self._here.recv()
    except EOFError:
      self._process.join()
      return f"fault: crashed, exit code {self._process.exitcode}"

  def close(self) -> None:
    """Ends the process unconditionally."""
    self._process.kill()
    self._process.join()


def run(out: pathlib.Path, num_cases: int) -> dict[str, Any]:
  """Runs all cases that are not in the record yet.

  Returns:
    The record: number of cases done, how they ended by kind, and the faults.
  """
  out.mkdir(parents=True, exist_ok=True)
  path = out / "record.json"
  record = {"seed": SEED, "done": 0, "ended": {}, "faults": [], "slowest": 0.0}
  if path.exists():
    known = json.loads(path.read_text(encoding="utf-8"))
    # The cases of another seed are others.
    record = known if known["seed"] == SEED else record
  with tempfile.TemporaryDirectory() as folder:
    whole = pathlib.Path(folder)
    seeds.write(whole)
    worker = Worker(whole)
    numbers = range(record["done"], num_cases)
    for number in tqdm.tqdm(numbers, initial=record["done"], total=num_cases):
      began = time.monotonic()
      ended = worker.do(number)
      record["slowest"] = round(
        max(record["slowest"], time.monotonic() - began), 2
      )
      kind, word = KINDS[number % len(KINDS)], ended.partition(":")[0]
      counts = collections.Counter(record["ended"].get(kind, {}))
      counts[word] += 1
      record["ended"][kind] = dict(sorted(counts.items()))
      if word == "fault":
        record["faults"].append({"case": number, "kind": kind, "ended": ended})
        if "crashed" in ended or "took" in ended:
          worker.close()
          worker = Worker(whole)
      record["done"] = number + 1
      if record["done"] % BLOCK == 0 or record["done"] == num_cases:
        atomic.write_text(path, json.dumps(record, indent=1) + "\n")
    worker.close()
  return record


def format_table(record: dict[str, Any]) -> str:
  """The record as Markdown."""
  outcomes = ("read", "refused", "failed", "fault")
  rows = [["file", "cases", *outcomes]]
  for kind, counts in sorted(record["ended"].items()):
    numbers = [counts.get(outcome, 0) for outcome in outcomes]
    rows.append([kind, str(sum(numbers)), *map(str, numbers)])
  lines = [f"| {' | '.join(row)} |" for row in rows]
  lines.insert(1, "|---" * len(rows[0]) + "|")
  return "\n".join(lines) + "\n"


def main() -> None:
  """Runs the cases, or repeats one."""
  if sys.argv[1] == "case":
    with tempfile.TemporaryDirectory() as folder:
      folder = pathlib.Path(folder)
      (folder / "whole").mkdir()
      seeds.write(folder / "whole")
      kinds = seeds.kinds(folder / "whole")
      print(do_case(kinds, int(sys.argv[2]), folder / "case"))
    return
  out = pathlib.Path(sys.argv[1])
  record = run(out, int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
  atomic.write_text(out / "table.md", format_table(record))
  print(format_table(record))
  for fault in record["faults"]:
    print(fault)


if __name__ == "__main__":
  main()
