"""Kills a training run repeatedly and compares its result.

    python -m experiments.resilience.kill OUT [KILLS] [--config.… …]

Trains once without interruption, and once more killed by SIGKILL: alternately
at a random moment between its start and its third save, and while a checkpoint
is being written. OUT/records.jsonl has a line per kill and one for the
comparison; OUT/kills.png shows them.
"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import orbax.checkpoint as ocp

NUM_STEPS, SAVE_EVERY, VALIDATE_EVERY = 300, 3, 60
# Folders of unfinished checkpoints of Orbax.
UNFINISHED = "*.orbax-checkpoint-tmp"
# Measured times may differ between the two runs, and nothing else.
MEASURED = ("seconds/", "patches_per_second")
KINDS = {"any moment": "#1553ae", "during a save": "#f80c00"}


def flairhub(*arguments: object) -> subprocess.Popen:
  """Starts a command of the package."""
  return subprocess.Popen(
    [sys.executable, "-m", "flairhub_jax", *map(str, arguments)],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(*arguments: object) -> None:
  """Runs a command of the package to its end."""
  process = flairhub(*arguments)
  _, errors = process.communicate()
  if process.returncode:
    raise SystemExit(errors)


def make_data(folder: pathlib.Path) -> None:
  """Simulates and converts a data set of two sensors."""
  raw = folder / "raw"
  modalities = ("AERIAL_RGBI", "SENTINEL2_TS")
  options = ["--patches", 60, "--pixels", 64, "--modalities", *modalities]
  finish("simulate", "--out", raw, *options)
  lists = [
    word
    for split in ("train", "valid", "test")
    for word in (
      f"--{split}",
      raw / f"csv/FLAIR-HUB_SIMULATED_{split.upper()}.csv",
    )
  ]
  finish("convert", *lists, "--out", folder / "records")


def training(
  folder: pathlib.Path, name: str, overrides: list[str]
) -> list[str]:
  """The command of a run: augmented, averaged, with dropout, two sensors."""
  return [
    "train",
    "--config=configs/quickstart.py",
    f"--workdir={folder / name}",
    f"--config.data.path={folder / 'records'}",
    "--config.data.modalities=('AERIAL_RGBI','SENTINEL2_TS')",
    "--config.data.tasks=('AERIAL_LABEL-COSIA',)",
    "--config.data.batch_size=4",
    "--config.data.date_buckets=(8,)",
    "--config.train.ema_decay=0.99",
    f"--config.train.num_steps={NUM_STEPS}",
    f"--config.train.save_every={SAVE_EVERY}",
    f"--config.train.validate_every={VALIDATE_EVERY}",
    "--config.train.log_every=1",
    f"--config.train.compilation_cache={folder / 'compiled'}",
    *overrides,
  ]


def saved_steps(run: pathlib.Path) -> list[int]:
  """Steps of the finished checkpoints."""
  folders = (run / "checkpoints").glob("*")
  return sorted(int(f.name) for f in folders if f.name.isdigit())


def logged(run: pathlib.Path) -> list[dict]:
  """Complete lines of the metrics."""
  path = run / "metrics.jsonl"
  lines = path.read_text().splitlines(True) if path.exists() else []
  return [json.loads(line) for line in lines if line.endswith("\n")]


def is_saving(run: pathlib.Path) -> bool:
  """Whether a checkpoint is being written, or was at the kill."""
  return any((run / "checkpoints").glob(UNFINISHED))


def wait_for(what: Callable[[], bool], process: subprocess.Popen) -> None:
  """Waits until a condition is true; raises if the process ends first."""
  while not what():
    if process.poll() is not None:
      raise SystemExit(f"ended before it was killed: {process.stderr.read()}")
    time.sleep(0.001)


def kill_once(
  run: pathlib.Path,
  arguments: list[str],
  kind: str,
  rng: random.Random,
  typical: float,
) -> dict:
  """Starts the run, kills it and returns its progress.

  Args:
    run: run directory.
    arguments: command of the run.
    kind: one of `KINDS`.
    rng: draws the moment.
    typical: seconds from a start to its third save.
  """
  from_step = max(saved_steps(run), default=0)
  start = time.monotonic()
  process = flairhub(*arguments)
  if kind == "any moment":
    moment = start + rng.uniform(0, typical)
    wait_for(lambda: time.monotonic() > moment, process)
  else:
    for _ in range(rng.randint(1, 3)):
      # At its start a run removes an unfinished checkpoint.
      wait_for(lambda: not is_saving(run), process)
      wait_for(lambda: is_saving(run), process)
    time.sleep(rng.uniform(0, 0.02))
  process.kill()
  process.communicate()
  return {
    "kind": kind,
    "seconds": round(time.monotonic() - start, 3),
    "from_step": from_step,
    "logged_step": max((r["step"] for r in logged(run)), default=0),
    "saved_step": max(saved_steps(run), default=0),
    "left_unfinished_save": is_saving(run),
  }


def what_must_agree(run: pathlib.Path) -> tuple[list, list, list]:
  """Saved steps, arrays of the last state, and all metrics."""
  steps = saved_steps(run)
  with ocp.PyTreeCheckpointer() as checkpointer:
    state = checkpointer.restore(
      run.absolute() / f"checkpoints/{steps[-1]}/state"
    )
  arrays = [
    np.asarray(
      jax.random.key_data(x)
      if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
      else x
    )
    for x in jax.tree.leaves(state)
  ]
  lines = [
    {k: v for k, v in record.items() if not k.startswith(MEASURED)}
    for record in logged(run)
  ]
  return steps, arrays, lines


def compare(whole: pathlib.Path, killed: pathlib.Path) -> dict:
  """Compares two runs that have ended, bit for bit."""
  (steps, arrays, lines), (steps_again, arrays_again, lines_again) = map(
    what_must_agree, (whole, killed)
  )
  pairs = zip(arrays, arrays_again, strict=True)
  return {
    "kind": "comparison",
    "step": steps[-1],
    "arrays": len(arrays),
    "numbers": sum(x.size for x in arrays),
    "arrays_that_differ": sum(x.tobytes() != y.tobytes() for x, y in pairs),
    "same_checkpoints": steps == steps_again,
    "lines_logged": len(lines),
    "same_lines": lines == lines_again,
  }


def draw(records: list[dict], path: pathlib.Path) -> None:
  """Draws the first and last step of each process."""
  kills = [r for r in records if r["kind"] in KINDS]
  figure, axes = plt.subplots(figsize=(9, 4.5))
  for kind, colour in KINDS.items():
    chosen = [(i, r) for i, r in enumerate(kills, 1) if r["kind"] == kind]
    numbers = [i for i, _ in chosen]
    axes.vlines(
      numbers,
      [r["from_step"] for _, r in chosen],
      [r["logged_step"] for _, r in chosen],
      color=colour,
      linewidth=5,
      alpha=0.4,
    )
    axes.plot(
      numbers,
      [r["logged_step"] for _, r in chosen],
      "x",
      color=colour,
      label=f"killed at {kind}" if "any" in kind else f"killed {kind}",
    )
  axes.plot(
    range(1, len(kills) + 1),
    [r["saved_step"] for r in kills],
    ".",
    color="black",
    label="latest complete checkpoint, where the next process starts",
  )
  axes.set_xlabel("kill")
  axes.set_ylabel("step")
  axes.spines[["top", "right"]].set_visible(False)
  axes.legend(frameon=False)
  figure.tight_layout()
  figure.savefig(path, dpi=120)
  plt.close(figure)


def main() -> None:
  """Trains twice, once with kills."""
  overrides = [word for word in sys.argv if word.startswith("--config.")]
  out, *kills = [word for word in sys.argv[1:] if word not in overrides]
  out, num_kills = pathlib.Path(out), int(kills[0]) if kills else 30
  rng = random.Random(0)
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    make_data(folder)
    whole, killed = folder / "whole", folder / "killed"
    finish(*training(folder, "whole", overrides))
    # Time from a start with a warm compilation cache to the third save.
    arguments = training(folder, "timed", overrides)
    start = time.monotonic()
    process = flairhub(*arguments)
    wait_for(lambda: len(saved_steps(folder / "timed")) >= 3, process)
    typical = time.monotonic() - start
    process.kill()
    process.communicate()
    arguments, records = training(folder, "killed", overrides), []
    for number in range(num_kills):
      kind = list(KINDS)[number % 2]
      records.append(kill_once(killed, arguments, kind, rng, typical))
      print(number + 1, records[-1], flush=True)
    finish(*arguments)
    records.append(compare(whole, killed))
    print(records[-1])
  out.mkdir(parents=True, exist_ok=True)
  lines = "".join(json.dumps(record) + "\n" for record in records)
  (out / "records.jsonl").write_text(lines)
  draw(records, out / "kills.png")


if __name__ == "__main__":
  main()
