"""Measures all open questions of speed on an accelerator.

    python -m experiments.speed.accelerator OUT [--small] [STAGE …]

Stages, most valuable first: `steps` (training and forward passes in each
precision), `forms` (every form of every operation alone), `forced` (non-default
forms within a step), `remat`, `deterministic`, `parity` (needs outputs of the
reference at full size), `kill`, `largest` (doubles the batch until it does not
fit). OUT/accelerator.jsonl gets a line per measurement; measurements with a
line are not repeated. OUT/accelerator.md tabulates all lines. `--small` runs
everything in miniature, as a test.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from experiments.speed import forms
from flairhub_jax.models import kernels

LARGEST = 1024
# Type and precision of products, as in the configuration.
NUMBERS = (
  {"dtype": "bfloat16", "matmul_precision": "default"},
  {"dtype": "float32", "matmul_precision": "default"},
  {"dtype": "float32", "matmul_precision": "highest"},
)
# Case -> experiment, dates, patches, further overrides.
CASES = {
  "LC-A Swin-B": ("LC-A", 1, 8, ()),
  "LC-L Swin-B": ("LC-L", 26, 4, ()),
  "LC-G": ("LC-G", 30, 32, ()),
  "LC-A ConvNeXt-B": (
    "LC-A", 1, 8, ("--config.model.encoder=convnextv2_base",),
  ),
}  # fmt: skip
_TINY = (
  "--config.model.encoder=swin_nano",
  "--config.model.decoder=upernet_nano",
)
_SIDE = ("--config.inputs.AERIAL_RGBI.pixels=64",)
SMALL_CASES = {
  "LC-A Swin-B": ("LC-A", 1, 1, (*_TINY, *_SIDE)),
  "LC-G": ("LC-G", 2, 1, ()),
}
# Operations -> the case in whose step their forms are compared.
FORCED = {
  "attention": "LC-A Swin-B",
  "resize": "LC-A Swin-B",
  "convolution": "LC-A Swin-B",
  "dense": "LC-A Swin-B",
  "padded_convolution": "LC-G",
  "depthwise": "LC-A ConvNeXt-B",
}
# Dense operations per second of bfloat16, TF32 and float32, from data sheets.
PEAKS = {
  "NVIDIA H200": (989e12, 495e12, 67e12),
  "NVIDIA H100 80GB HBM3": (989e12, 495e12, 67e12),
  "NVIDIA A100-SXM4-80GB": (312e12, 156e12, 19.5e12),
  "NVIDIA A100-SXM4-40GB": (312e12, 156e12, 19.5e12),
}
PARITY = ("lca_swin_tiny", "lca_convnextv2_tiny_upernet", "lcg_utae")
SHARED = pathlib.Path(__file__).parents[3] / "shared"


def planned(small: bool) -> Iterator[dict]:
  """Yields what is measured, in order; each a key of a record."""
  cases = SMALL_CASES if small else CASES
  plain = {"remat": "none", "deterministic": False, "kernels": ""}
  sizes = {case: patches for case, (_, _, patches, _) in cases.items()}

  def step(stage, case, numbers=NUMBERS[0], what="train", **changes):
    key = {"stage": stage, "case": case, "what": what, **numbers, **plain}
    return {**key, "batch_size": sizes[case], **changes}

  for what in ("train", "forward"):
    for case in cases:
      for numbers in NUMBERS[:1] if small else NUMBERS:
        yield step("steps", case, numbers, what)
  for name, (operation, _, _) in forms.alone(small).items():
    for form in kernels.FORMS[operation]:
      for numbers in NUMBERS:
        yield {"stage": "forms", "case": name, "form": form, **numbers}
  for operation, case in FORCED.items():
    for form in kernels.FORMS[operation] if case in cases else ():
      if form != kernels.TABLE["other"][operation]:
        yield step("forced", case, kernels=f"{operation}={form}")
  for case in cases:
    for remat in ("stage", "block"):
      yield step("remat", case, remat=remat)
  for case in cases:
    yield step("deterministic", case, deterministic=True)
  for case in PARITY[-1:] if small else PARITY:
    for numbers in NUMBERS:
      yield {"stage": "parity", "case": case, **numbers}
  for deterministic in (False, True):
    yield {"stage": "kill", "case": "kill", "deterministic": deterministic}
  for case in () if small else cases:
    for remat in ("none", "block"):
      yield step("largest", case, remat=remat)


# ---- a process of its own each ----------------------------------------------


def bench(key: dict, small: bool, batch_size: int) -> dict | None:
  """Numbers of `flairhub bench`; None where the batch does not fit."""
  cases = SMALL_CASES if small else CASES
  experiment, num_dates, _, overrides = cases[key["case"]]
  fields = ("dtype", "matmul_precision", "deterministic")
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / "numbers.json"
    done = subprocess.run(
      [
        *(sys.executable, "-m", "flairhub_jax", "bench", key["what"]),
        f"--config=benchmark:{experiment}",
        "--config.model.auxiliary=()",
        f"--config.model.remat={key['remat']}",
        f"--config.data.batch_size={batch_size}",
        *(f"--config.{field}={key[field]}" for field in fields),
        *overrides,
        *(f"--dates={num_dates}", f"--steps={3 if small else 10}"),
        f"--json={out}",
      ],
      env=os.environ | {kernels.VARIABLE: key["kernels"]},
      stderr=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      text=True,
    )
    if done.returncode == 0:
      return json.loads(out.read_text())
  # Refused before the first step, or out of memory in it.
  if "fits the device" in done.stderr or "RESOURCE_EXHAUSTED" in done.stderr:
    return None
  raise SystemExit(f"{key}: {done.stderr}")


def largest(key: dict, small: bool) -> dict | None:
  """The last batch of 1, 2, 4 … times the usual that fits."""
  result, batch_size = None, key["batch_size"]
  while batch_size <= LARGEST:
    more = bench(key, small, batch_size)
    if more is None:
      break
    result, batch_size = more, 2 * batch_size
  return result


def kill(key: dict, small: bool) -> dict:
  """The comparison of a run that was killed with one that was not."""
  arguments = ["2", "--config.train.num_steps=20"] if small else ["6"]
  with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(
      [
        *(
          sys.executable,
          "-m",
          "experiments.resilience.kill",
          folder,
          *arguments,
        ),
        f"--config.deterministic={key['deterministic']}",
      ],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    if done.returncode:
      raise SystemExit(f"{key}: {done.stderr}")
    lines = (pathlib.Path(folder) / "records.jsonl").read_text().splitlines()
  return json.loads(lines[-1])


# ---- many in one process ----------------------------------------------------


def compare_with_reference(key: dict, small: bool) -> dict:
  """Errors against the reference's numbers (`experiments.fidelity`)."""
  import jax

  from experiments.fidelity import measure
  from tests.models import parity
  from tests.parity import origin

  case = parity.load_case(origin.of_shared(SHARED), key["case"])
  numbers = {field: key[field] for field in NUMBERS[0]}
  result = measure.measure_outputs(case, **numbers)
  return {"device": jax.devices()[0].device_kind, **result}


def child(small: bool) -> None:
  """Measures the keys of standard input, a line of standard output each."""
  kinds = {"forms": forms.time_form, "parity": compare_with_reference}
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # output of commands is not a record
  for key in json.load(sys.stdin):
    result = kinds[key["stage"]](key, small)
    out.write(json.dumps({**key, "result": result}) + "\n")
    out.flush()


def by_child(keys: list[dict], small: bool) -> Iterator[dict]:
  """Records of keys that one process measures; it is ours to end."""
  command = [sys.executable, "-m", "experiments.speed.accelerator", "--child"]
  process = subprocess.Popen(
    command + ["--small"] * small,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  process.stdin.write(json.dumps(keys))
  process.stdin.close()
  for line in process.stdout:
    yield json.loads(line)
  if process.wait():
    raise SystemExit(f"{keys[0]['stage']}: broke off, see above")


# ---- records ----------------------------------------------------------------


def measured(keys: list[dict], small: bool) -> Iterator[dict]:
  """Records of keys, in order; seconds that each took."""
  start = time.monotonic()
  for stage in dict.fromkeys(key["stage"] for key in keys):
    own = [key for key in keys if key["stage"] == stage]
    if stage in ("forms", "parity"):
      records = by_child(own, small)
    else:
      records = (
        {
          **key,
          "result": kill(key, small)
          if stage == "kill"
          else largest(key, small)
          if stage == "largest"
          else bench(key, small, key["batch_size"]),
        }
        for key in own
      )
    for record in records:
      now = time.monotonic()
      yield {**record, "wall_seconds": round(now - start, 1)}
      start = now


def mfu(record: dict, records: list[dict]) -> float | None:
  """MFU: the network's own FLOPs as a fraction of the device's peak.

  Those of a forward pass, three times in training: recomputation is no work.
  """
  result = record["result"]
  same = ("case", "dtype", "matmul_precision")
  forward = [
    r["result"]
    for r in records
    if r["stage"] == "steps" and r["what"] == "forward" and r["result"]
    if all(r[name] == record[name] for name in same)
  ]
  peaks = PEAKS.get(result["device"])
  if not (forward and peaks):
    return None
  kind = list(NUMBERS).index({name: record[name] for name in NUMBERS[0]})
  patch = forward[0]["flops"] / forward[0]["batch_size"]
  times = 3 if record["what"] == "train" else 1
  rate = times * patch * result["patches_per_second"] / result["num_devices"]
  return rate / peaks[kind]


def write_table(path: pathlib.Path, records: list[dict]) -> None:
  """Writes a table per stage."""
  lines = []
  for stage in dict.fromkeys(record["stage"] for record in records):
    own = [record for record in records if record["stage"] == stage]
    rows = [row_of(record, records) for record in own]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines += [f"## {stage}", "", f"| {' | '.join(names)} |"]
    lines += [f"| {' | '.join('---' for _ in names)} |"]
    lines += [
      f"| {' | '.join(str(row.get(name, '')) for name in names)} |"
      for row in rows
    ]
    lines.append("")
  path.write_text("\n".join(lines))


def row_of(record: dict, records: list[dict]) -> dict[str, Any]:
  """Cells of a record by the head of their column."""
  hidden = ("stage", "result", "wall_seconds")
  row = {name: x for name, x in record.items() if name not in hidden}
  result = record["result"]
  if result is None:
    return row | {"": "does not fit"}
  if "median_seconds" not in result:
    numbers = {k: x for k, x in result.items() if isinstance(x, (int, float))}
    return row | {
      k: f"{x:.4g}" if isinstance(x, float) else x for k, x in numbers.items()
    }
  fraction = mfu(record, records)
  memory = result["peak_bytes_in_use"] or result["bytes_per_device"]
  return row | {
    "batch_size": result["batch_size"],
    "ms": f"{1e3 * result['median_seconds']:.2f}",
    "patches/s": f"{result['patches_per_second']:.1f}",
    "MFU": f"{100 * fraction:.1f} %" if fraction else "",
    "GB": f"{memory / 1e9:.2f}",
    "compile, s": f"{result['compile_seconds']:.0f}",
  }


def main() -> None:
  """Measures what has no record yet."""
  arguments = [word for word in sys.argv[1:] if not word.startswith("--")]
  small = "--small" in sys.argv
  if "--child" in sys.argv:
    child(small)
    return
  out, *stages = arguments
  path = pathlib.Path(out) / "accelerator.jsonl"
  path.parent.mkdir(parents=True, exist_ok=True)
  path.touch()
  records = [json.loads(line) for line in path.read_text().splitlines()]
  keys = [
    key
    for key in planned(small)
    if (not stages or key["stage"] in stages)
    and (key["stage"] != "parity" or SHARED.is_dir())
    and not any(key.items() <= record.items() for record in records)
  ]
  for number, record in enumerate(measured(keys, small), 1):
    records.append(record)
    with path.open("a") as file:
      file.write(json.dumps(record) + "\n")
    write_table(path.with_suffix(".md"), records)
    print(f"{number} of {len(keys)}: {json.dumps(record)[:160]}", flush=True)


if __name__ == "__main__":
  main()
