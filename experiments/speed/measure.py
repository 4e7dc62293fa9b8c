"""Times this code and the reference alternately, on the same machine.

    python -m experiments.speed.measure PYTHON OUT [CASE …]

PYTHON runs `run_reference.py`: an interpreter with the reference. Each side
runs alone in its own process, one after the other, in three rounds. `cpu.jsonl`
gets a line per case and process; OUT/cpu.md and OUT/cpu.png show all of them.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from flairhub_jax.configs import benchmark
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.weights import reference_export, reference_yaml

TINY, BASE = "swin_tiny_patch4_window7_224", "swin_base_patch4_window12_384"
# Name -> experiment, encoder, what, patches, dates of each series, steps: short
# ones are measured longer, because other machines on the processor come and go.
CASES = {
  "LC-A Swin-T forward": ("LC-A", TINY, "forward", 1, 0, 20),
  "LC-A Swin-T train": ("LC-A", TINY, "train", 2, 0, 4),
  "LC-A Swin-B forward": ("LC-A", BASE, "forward", 1, 0, 12),
  "LC-A Swin-B train": ("LC-A", BASE, "train", 2, 0, 4),
  "LC-D Swin-T forward": ("LC-D", TINY, "forward", 1, 20, 20),
  "LC-D Swin-T train": ("LC-D", TINY, "train", 2, 20, 4),
  "LC-L Swin-T forward": ("LC-L", TINY, "forward", 1, 26, 12),
  "LC-L Swin-T train": ("LC-L", TINY, "train", 2, 26, 4),
  "LC-G forward": ("LC-G", TINY, "forward", 4, 30, 40),
  "LC-G train": ("LC-G", TINY, "train", 4, 30, 20),
}
SIDES = ("reference", "ours")
ROUNDS = 3


def time_ours(case: str, folder: pathlib.Path) -> list[float]:
  """Seconds of each step, by `flairhub bench`."""
  experiment, encoder, what, batch_size, num_dates, steps = CASES[case]
  subprocess.run(
    [
      sys.executable,
      "-m",
      "flairhub_jax",
      "bench",
      what,
      f"--config=configs/benchmark.py:{experiment}",
      f"--config.model.encoder={encoder}",
      "--config.model.auxiliary=()",
      f"--config.data.batch_size={batch_size}",
      f"--steps={steps}",
      f"--dates={num_dates or 1}",
      f"--json={folder / 'ours.json'}",
    ],
    check=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  return json.loads((folder / "ours.json").read_text())["seconds"]


def time_reference(case: str, folder: pathlib.Path, python: str) -> list[float]:
  """Seconds of each step of the reference, on as many threads."""
  experiment, encoder, what, batch_size, num_dates, steps = CASES[case]
  config = benchmark.get_config(experiment)
  config.model.encoder, config.model.auxiliary = encoder, ()
  documents, _ = reference_export.documents(config)
  reference_yaml.write_documents(folder / "configs", documents)
  rng = np.random.default_rng(0)
  arrays = {
    task: rng.integers(0, 19, (batch_size, 512, 512)).astype(np.float32)
    for task in config.data.tasks
  }
  for modality in config.data.modalities:
    row, bands = FLAIR_HUB.sensors[modality], len(config.inputs[modality].bands)
    shape = (batch_size, bands, row.pixels, row.pixels)
    if row.is_series:
      shape = (batch_size, num_dates, *shape[1:])
      days = np.linspace(-180, 180, num_dates, dtype=np.float32)
      name = modality.replace("_TS", "_DATES")
      arrays[name] = np.tile(days, (batch_size, 1))
    arrays[modality] = rng.standard_normal(shape).astype(np.float32)
  np.savez(folder / "inputs.npz", **arrays)
  script = pathlib.Path(__file__).with_name("run_reference.py").absolute()
  arguments = ["configs", "inputs.npz", what, str(steps), str(os.cpu_count())]
  done = subprocess.run(
    [python, str(script), *arguments],
    cwd=folder,
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def medians_of(records: list[dict], case: str) -> dict[str, list[float]]:
  """Median seconds of each round by side."""
  return {
    side: [
      statistics.median(r["seconds"])
      for r in records
      if r["case"] == case and r["side"] == side
    ]
    for side in SIDES
  }


def faster(medians: dict[str, list[float]]) -> float:
  """Speed-up; compares consecutive runs because the machine drifts."""
  pairs = zip(*medians.values(), strict=False)
  return statistics.median(theirs / ours for theirs, ours in pairs)


def write_table(path: pathlib.Path, medians_by_case: dict[str, dict]) -> None:
  """Writes medians by case: the range over rounds, and the ratio."""
  lines = [
    "| case | patches | reference, s | this code, s | speed-up |",
    "| --- | ---: | ---: | ---: | ---: |",
  ]
  for case, medians in medians_by_case.items():
    cells = [
      "-".join(
        sorted({f"{extreme(seconds):.2f}" for extreme in (min, max)}, key=float)
      )
      for seconds in medians.values()
    ]
    lines.append(
      f"| {case} | {CASES[case][3]} | {' | '.join(cells)} |"
      f" {faster(medians):.2f} x |"
    )
  path.write_text("\n".join(lines) + "\n")


def draw(path: pathlib.Path, medians_by_case: dict[str, dict]) -> None:
  """Draws how many times faster each case is, with the seconds beside it."""
  figure, axis = plt.subplots(figsize=(8, 0.34 * len(medians_by_case) + 1.1))
  ratios = [faster(medians) for medians in medians_by_case.values()]
  colours = [
    "#1553ae" if case.endswith("train") else "#6c9bd2"
    for case in medians_by_case
  ]
  axis.barh(list(medians_by_case), ratios, 0.7, color=colours)
  for row, (ratio, medians) in enumerate(
    zip(ratios, medians_by_case.values(), strict=True)
  ):
    theirs, ours = map(statistics.median, medians.values())
    text = f" {ratio:.2f} x   {theirs:.2f} s, {ours:.2f} s"
    axis.text(ratio, row, text, va="center")
  axis.axvline(1, color="black", linewidth=1)
  axis.invert_yaxis()
  axis.set_xlim(0, 1.6 * max(ratios))
  axis.set_xlabel("times faster than the reference   (reference, this code)")
  axis.spines[["top", "right"]].set_visible(False)
  figure.tight_layout()
  figure.savefig(path, dpi=120)
  plt.close(figure)


def main() -> None:
  """Measures what has no record yet."""
  python, out, *cases = sys.argv[1:]
  path = pathlib.Path(out) / "cpu.jsonl"
  path.parent.mkdir(parents=True, exist_ok=True)
  path.touch()
  done = [json.loads(line) for line in path.read_text().splitlines()]
  for number in range(ROUNDS):
    for case in cases or CASES:
      for side in SIDES:
        key = {"case": case, "round": number, "side": side}
        if any(key.items() <= record.items() for record in done):
          continue
        with tempfile.TemporaryDirectory() as folder:
          folder = pathlib.Path(folder)
          seconds = (
            time_reference(case, folder, python)
            if side == "reference"
            else time_ours(case, folder)
          )
        print(key, [round(s, 3) for s in seconds], flush=True)
        with path.open("a") as file:
          file.write(json.dumps(key | {"seconds": seconds}) + "\n")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    medians_by_case = {case: medians_of(records, case) for case in CASES}
    medians_by_case = {
      case: m for case, m in medians_by_case.items() if all(m.values())
    }
    write_table(path.with_suffix(".md"), medians_by_case)
    draw(path.with_suffix(".png"), medians_by_case)


if __name__ == "__main__":
  main()
