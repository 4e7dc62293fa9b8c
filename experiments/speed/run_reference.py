"""Times the reference (PyTorch); called by `measure`.

PYTHON run_reference.py CONFIGS INPUTS.npz train|forward STEPS THREADS

Needs the reference's package, PyTorch, timm and segmentation-models-pytorch
0.4.0; nothing of this project. A training step is forward, cross entropy,
backward and AdamW; the metrics that the reference adds to it are left out.
Prints the seconds of each step as JSON.
"""

import json
import sys
import time

import numpy as np
import segmentation_models_pytorch as smp
import torch

_create_model = smp.create_model


def _without_download(*args, **options):
  """ImageNet weights would be fetched; speed does not depend on them."""
  return _create_model(*args, **{"encoder_weights": None, **options})


smp.create_model = _without_download

from flair_hub.models.flair_model import FLAIR_HUB_Model  # noqa: E402
from flair_hub.utils.config_io import read_config  # noqa: E402


def main() -> None:
  """Builds the network, runs it, prints."""
  configs, inputs, what, steps, threads = sys.argv[1:]
  torch.set_num_threads(int(threads))
  batch = {k: torch.from_numpy(v) for k, v in np.load(inputs).items()}
  config = read_config(configs)
  active = [m for m, on in config["modalities"]["inputs"].items() if on]
  model = FLAIR_HUB_Model(config, {m: batch[m].shape[-1] for m in active})
  labels = {t: batch[t].long() for t in config["labels"]}
  loss = torch.nn.CrossEntropyLoss()
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
  model.train(what == "train")

  def step():
    if what == "forward":
      with torch.inference_mode():
        logits, _ = model(batch)
        return {task: x.argmax(1) for task, x in logits.items()}
    optimizer.zero_grad()
    logits, _ = model(batch)
    sum(loss(x, labels[task]) for task, x in logits.items()).backward()
    return optimizer.step()

  seconds = []
  for _ in range(int(steps) + 1):
    start = time.monotonic()
    step()
    seconds.append(time.monotonic() - start)
  print(json.dumps(seconds[1:]))


if __name__ == "__main__":
  main()
