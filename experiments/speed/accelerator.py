"""Measures one accelerator: larger and larger batches, until one does not fit.

    python -m experiments.speed.accelerator OUT [CASE …]

Each batch is a `flairhub bench` in a process of its own; a line of
`accelerator.jsonl` for each, a table of all of them in OUT/accelerator.md. What
has a line already is not measured again.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import tqdm

# Name -> experiment, dates of each series.
CASES = {
  "LC-A Swin-B": ("LC-A", 1),
  "LC-L Swin-B": ("LC-L", 26),
  "LC-G": ("LC-G", 30),
}
LARGEST = 1024


def measure(key: dict) -> dict | None:
  """Numbers of `flairhub bench`; None where the batch does not fit."""
  experiment, num_dates = CASES[key["case"]]
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / "found.json"
    done = subprocess.run(
      [
        sys.executable,
        "-m",
        "flairhub_jax",
        "bench",
        key["what"],
        f"--config=configs/benchmark.py:{experiment}",
        "--config.model.auxiliary=()",
        f"--config.dtype={key['dtype']}",
        f"--config.data.batch_size={key['batch_size']}",
        f"--dates={num_dates}",
        f"--json={out}",
      ],
      stderr=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      text=True,
    )
    if done.returncode == 0:
      return json.loads(out.read_text())
  # Told before the first step, or met in it.
  if "fits the device" in done.stderr or "RESOURCE_EXHAUSTED" in done.stderr:
    return None
  raise SystemExit(done.stderr)


def write_table(path: pathlib.Path, records: list[dict]) -> None:
  """Writes a line per record that fitted."""
  lines = [
    "| case | | type | patches | s a step | patches/s | TFLOP/s"
    " | of bfloat16 peak | memory, GB |",
    "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
  ]
  for record in records:
    found = record["found"]
    if found is None:
      continue
    share = found["share_of_bfloat16_peak"]
    memory = found["peak_bytes_in_use"] or found["bytes_per_device"]
    lines.append(
      f"| {record['case']} | {record['what']} | {record['dtype']}"
      f" | {record['batch_size']} | {found['median_seconds']:.4f}"
      f" | {found['patches_per_second']:.1f}"
      f" | {found['flops_per_second'] / 1e12:.1f}"
      f" | {f'{100 * share:.1f} %' if share else ''} | {memory / 1e9:.1f} |"
    )
  path.write_text("\n".join(lines) + "\n")


def main() -> None:
  """Measures what has no record yet."""
  out, *cases = sys.argv[1:]
  path = pathlib.Path(out) / "accelerator.jsonl"
  path.parent.mkdir(parents=True, exist_ok=True)
  path.touch()
  records = [json.loads(line) for line in path.read_text().splitlines()]
  series = [
    {"case": case, "what": what, "dtype": dtype}
    for case in cases or CASES
    for what in ("train", "forward")
    for dtype in ("float32", "bfloat16")
  ]
  for one in tqdm.tqdm(series, unit="series"):
    batch_size = 1
    while batch_size <= LARGEST:
      key = {**one, "batch_size": batch_size}
      known = [r for r in records if key.items() <= r.items()]
      record = known[0] if known else {**key, "found": measure(key)}
      if not known:
        records.append(record)
        with path.open("a") as file:
          file.write(json.dumps(record) + "\n")
        write_table(path.with_suffix(".md"), records)
      if record["found"] is None:
        break
      batch_size *= 2


if __name__ == "__main__":
  main()
