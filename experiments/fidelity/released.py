"""Compares every published network at full size with the reference itself.

    python -m experiments.fidelity.released PYTHON OUT [NETWORK …]

PYTHON runs `run_reference.py`: an interpreter that has the reference. Weights
and inputs are made by rule, written as `flairhub export-weights` writes them,
loaded there without a key missing or left over, and run on the same patch.
One line of `released.jsonl` per network; those that have one are not run
again.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import jax
import numpy as np

from flairhub_jax.configs import benchmark
from flairhub_jax.modalities import MODALITIES
from flairhub_jax.models import build
from flairhub_jax.weights import (
  files,
  reference,
  reference_export,
  reference_only,
  reference_yaml,
)
from tests.models import numbers

SWIN = {
  "tiny": "swin_tiny_patch4_window7_224",
  "small": "swin_small_patch4_window7_224",
  "base": "swin_base_patch4_window12_384",
  "large": "swin_large_patch4_window12_384",
}
# Published name -> experiment, encoder, decoder.
NETWORKS = {
  **{
    f"LC-A_swin{size}-upernet": ("LC-A", encoder, "upernet")
    for size, encoder in SWIN.items()
  },
  "LC-A_convnextv2tiny-upernet": ("LC-A", "convnextv2_tiny", "upernet"),
  "LC-A_convnextv2base-upernet": ("LC-A", "convnextv2_base", "upernet"),
  "LC-A_convnextv2base-unet": ("LC-A", "convnextv2_base", "unet"),
  "LC-A_resnet50-unet": ("LC-A", "resnet50", "unet"),
  **{
    f"{experiment}_swinbase-upernet": (experiment, SWIN["base"], "upernet")
    for experiment in benchmark.EXPERIMENTS
    if experiment not in ("LC-A", "LC-G", "LC-H", "LPIS-F", "LPIS-G", "LPIS-H")
  },
  **{
    f"{experiment}_utae": (experiment, SWIN["base"], "upernet")
    for experiment in ("LC-G", "LC-H", "LPIS-F", "LPIS-G", "LPIS-H")
  },
}
NUM_DATES = 5
SIDE = 512


def make_batch(config) -> dict:
  """One patch of every modality, as already normalised."""
  batch = {"inputs": {}, "dates": {}, "valid": {}}
  for modality in config.data.modalities:
    row = MODALITIES[modality]
    rng = np.random.default_rng(list(modality.encode()))
    shape = (1, row.pixels, row.pixels, len(row.bands))
    if row.is_series:
      shape = (1, NUM_DATES, *shape[1:])
      dates = np.sort(rng.integers(-130, 230, (1, NUM_DATES)))
      batch["dates"][modality] = dates.astype(np.int32)
      batch["valid"][modality] = np.ones((1, NUM_DATES), bool)
    x = rng.standard_normal(shape)
    batch["inputs"][modality] = x.astype(np.float32)
  return batch


def reference_inputs(config, batch: dict) -> dict:
  """The batch in the reference's layout; labels only tell the size."""
  arrays = {task: np.zeros((1, SIDE, SIDE), "f4") for task in config.data.tasks}
  for modality, x in batch["inputs"].items():
    row = MODALITIES[modality]
    bands = config.inputs[modality].bands
    x = x[..., [row.bands.index(band) for band in bands]]
    arrays[modality] = np.moveaxis(x, -1, -3)
    if row.is_series:
      name = modality.replace("_TS", "_DATES")
      arrays[name] = batch["dates"][modality].astype(np.float32)
  return arrays


def measure(name: str, python: str) -> dict:
  """Errors of one network, through files."""
  experiment, encoder, decoder = NETWORKS[name]
  config = benchmark.get_config(experiment)
  config.model.encoder, config.model.decoder = encoder, decoder
  config.data.normalisation = "without"
  config.inputs["DEM_ELEV"].bands = ("DSM", "DTM")
  batch = make_batch(config)
  segmenter = build.build_segmenter(config, output_size=(SIDE, SIDE))
  variables = numbers.variables_of(build.variables_shape(segmenter, batch))
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    documents, _ = reference_export.documents(config)
    reference_yaml.write_documents(folder / "configs", documents)
    unused = numbers.variables_of(
      reference_only.shape_of(reference_only.describe(segmenter, batch))
    )
    tensors = reference.to_reference(variables, prefix="model.")
    tensors |= reference.to_reference(unused, prefix="model.")
    files.write_tensors(folder / "weights.safetensors", tensors, {})
    np.savez(folder / "inputs.npz", **reference_inputs(config, batch))
    script = pathlib.Path(__file__).with_name("run_reference.py")
    words = ["weights.safetensors", "configs", "inputs.npz", "outputs.npz"]
    subprocess.run(
      [python, str(script), *words],
      cwd=folder,
      check=True,
      stdout=subprocess.DEVNULL,
    )
    expected = dict(np.load(folder / "outputs.npz"))

  def forward(variables, batch):
    # Auxiliary decoders are in the file, but not in a prediction.
    return segmenter.apply(variables, batch)["logits"]

  options = {"xla_backend_optimization_level": 0}
  found = jax.jit(forward, compiler_options=options)(variables, batch)
  record = {"network": name, "encoder": encoder, "decoder": decoder}
  for task, kept in expected.items():
    x = np.moveaxis(np.asarray(found[task]), -1, 1)
    record["error"] = float(np.abs(x - kept).max() / kept.std())
    record["equal_classes"] = float((x.argmax(1) == kept.argmax(1)).mean())
  leaves = jax.tree.leaves((variables["params"], unused.get("params", {})))
  record["parameters"] = sum(leaf.size for leaf in leaves)
  return record


def main() -> None:
  """Measures the networks that have no record yet."""
  python, path = sys.argv[1], pathlib.Path(sys.argv[2]) / "released.jsonl"
  done = set()
  if path.exists():
    lines = path.read_text(encoding="utf-8").splitlines()
    done = {json.loads(line)["network"] for line in lines}
  with jax.default_matmul_precision("highest"):
    for name in sys.argv[3:] or NETWORKS:
      if name in done:
        continue
      record = measure(name, python)
      print(json.dumps(record), flush=True)
      with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
  main()
