"""Compares the network with the reference's numbers, case by case.

    python -m experiments.fidelity.measure SHARED OUT [CASE …]

SHARED contains `parity/` and `manifests/` with outputs of the reference. Each
case's checkpoint and YAML are written in the reference's format, imported by
`flairhub import-weights`, and run. `records.jsonl` gets a line per case; cases
with a line are not repeated.
"""

import json
import pathlib
import sys
import tempfile

import jax
import numpy as np

import flairhub_jax
from flairhub_jax.__main__ import main as flairhub
from flairhub_jax.models import build
from flairhub_jax.weights import (
  files,
  reference,
  reference_export,
  reference_only,
  reference_yaml,
)
from tests.models import parity
from tests.parity import origin

OPTIONS = {"xla_backend_optimization_level": 0}


def import_case(case: parity.Case, folder: pathlib.Path):
  """The case's network, imported from files."""
  config = case.config()
  documents, _ = reference_export.documents(config)
  reference_yaml.write_documents(folder / "configs_train", documents)
  tensors = {f"model.{k}": v for k, v in case.tensors().items()}
  weights = folder / "weights.safetensors"
  files.write_tensors(weights, tensors, {})
  arguments = ["import-weights", "--weights", str(weights)]
  arguments += ["--configs", str(folder / "configs_train")]
  if flairhub([*arguments, "--out", str(folder / "run")]):
    raise SystemExit(f"{case.name}: not imported")
  return flairhub_jax.load_model(folder / "run")


def measure_outputs(case: parity.Case, **changes: str) -> dict:
  """Largest errors of outputs and of features, over their deviations.

  Args:
    case: what the reference was run on.
    **changes: fields of the configuration, such as `dtype`.
  """
  with tempfile.TemporaryDirectory() as folder:
    model = import_case(case, pathlib.Path(folder))
  with model.config.unlocked():
    model.config.update(changes)
  side = case.array(case.settings["labels"][0]).shape[1:]
  segmenter = build.build_segmenter(model.config, output_size=side)

  def forward(variables, batch):
    return parity.forward(segmenter, variables, batch)

  outputs, between = jax.jit(forward, compiler_options=OPTIONS)(
    model.variables, case.batch()
  )
  errors = {}
  for key, x in parity.flat_outputs(outputs).items():
    error = np.abs(x[..., ::16, ::16] - case.numbers[key]).max()
    errors[key] = float(error / case.numbers[f"stats/{key}"][1])
  blocks = {}
  for key, x in parity.flat_blocks(between).items():
    if key in case.numbers:
      sample = case.numbers[key]
      error = np.abs(case.rule.sample(x, sample.size) - sample).max()
      blocks[key] = float(error / sample.std())
  logits = [k for k in errors if k.startswith("logits/")]
  noise = [
    value / case.numbers[f"stats/{key}"][1]
    for key, value in case.settings["f32_noise_max_abs"].items()
  ]
  worst = max(blocks, key=blocks.get)
  return {
    "case": case.name,
    "kind": "forward",
    "modalities": len(case.settings["modalities"]),
    "arch": case.settings["arch"],
    "logits": max(errors[k] for k in logits),
    "auxiliary": max((errors[k] for k in errors.keys() - logits), default=None),
    "blocks": blocks[worst],
    "worst_block": worst,
    "reference_noise": float(max(noise)),
    "parameters": model.num_parameters
    + reference_only.count(reference_only.of_config(model.config)),
  }


def measure_gradients(case: parity.Case) -> dict:
  """Errors of the first training step: loss, gradients, statistics."""
  utae = dict(attention_dropout=0.0, mlp_dropout=0.0)
  drop_path = 0.0 if "swin" in case.settings["arch"] else None
  segmenter, variables, batch = case.network(
    drop_path_rate=drop_path, utae=utae
  )
  labels = {task: case.array(task) for task in case.settings["labels"]}

  def loss_fn(params):
    outputs, updates = segmenter.apply(
      variables | {"params": params},
      batch,
      train=True,
      rngs={"dropout": jax.random.key(0)},
      mutable=["batch_stats"],
    )
    weights = case.settings["class_weights"]
    loss = parity.weighted_loss(outputs, labels, weights)
    return loss, updates["batch_stats"]

  step = jax.jit(
    jax.value_and_grad(loss_fn, has_aux=True), compiler_options=OPTIONS
  )
  (loss, batch_stats), gradients = step(variables["params"])
  expected = case.settings["losses_before_each_step_and_after_last"][0]
  tensors = reference.to_reference({"params": gradients})
  # Without a gradient: parameters that only the reference has.
  used = ~np.isnan(case.numbers["grad_norms"])
  norms = case.numbers["grad_norms"][used]
  total = np.sqrt(np.square(norms).sum())
  keys = case.numbers["grad_norm_keys"][used].tolist()
  actual = [np.linalg.norm(tensors[key].astype(np.float64)) for key in keys]
  error = np.abs(np.array(actual) - norms)
  large = norms > 1e-4 * total
  running = reference.to_reference({"batch_stats": batch_stats})
  moved = [
    np.abs(running[key[3:]].ravel() - statistic.ravel()).max()
    for key, statistic in case.numbers.items()
    if key[3:] in running and not key.endswith("num_batches_tracked")
  ]
  return {
    "case": case.name,
    "kind": "train",
    "modalities": len(case.settings["modalities"]),
    "arch": case.settings["arch"],
    "loss": float(abs(loss - expected) / expected),
    "gradient_norms": float((error[large] / norms[large]).max()),
    "gradient_norms_of_total": float(error.max() / total),
    "running_statistics": float(max(moved)),
  }


def main() -> None:
  """Measures the cases that have no record yet."""
  shared, out = (pathlib.Path(word) for word in sys.argv[1:3])
  records = out / "records.jsonl"
  done = set()
  if records.exists():
    lines = records.read_text(encoding="utf-8").splitlines()
    done = {json.loads(line)["case"] for line in lines}
  names = sys.argv[3:] or sorted(
    path.stem for path in (shared / "parity").glob("*.npz")
  )
  with jax.default_matmul_precision("highest"):
    for name in names:
      if name in done:
        continue
      case = parity.load_case(origin.of_shared(shared), name)
      is_train = case.settings["kind"] == "train"
      record = (measure_gradients if is_train else measure_outputs)(case)
      print(json.dumps(record), flush=True)
      with records.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
  main()
