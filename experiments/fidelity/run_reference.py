"""Runs the reference (PyTorch) on files; called by `released`.

PYTHON run_reference.py WEIGHTS.safetensors CONFIGS INPUTS.npz OUTPUTS.npz

Needs the reference's package, PyTorch, timm, segmentation-models-pytorch 0.4.0
and safetensors; nothing of this project. Loading is strict.
"""

import sys

import numpy as np
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file

_create_model = smp.create_model


def _without_download(*args, **options):
  """ImageNet weights would be fetched, only to be replaced."""
  return _create_model(*args, **{"encoder_weights": None, **options})


smp.create_model = _without_download

from flair_hub.models.flair_model import FLAIR_HUB_Model  # noqa: E402
from flair_hub.utils.config_io import read_config  # noqa: E402


def main() -> None:
  """Loads, runs, writes logits by task."""
  weights, configs, inputs, outputs = sys.argv[1:]
  batch = {k: torch.from_numpy(v) for k, v in np.load(inputs).items()}
  config = read_config(configs)
  active = [m for m, on in config["modalities"]["inputs"].items() if on]
  model = FLAIR_HUB_Model(config, {m: batch[m].shape[-1] for m in active})
  state = {
    key.removeprefix("model."): tensor
    for key, tensor in load_file(weights).items()
    if not key.startswith("criterion.")
  }
  model.load_state_dict(state, strict=True)
  model.eval()
  with torch.inference_mode():
    logits, _ = model(batch)
  np.savez(outputs, **{task: x.numpy() for task, x in logits.items()})


if __name__ == "__main__":
  main()
