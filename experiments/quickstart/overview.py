"""Draws two test patches of a run: input, true and predicted land cover.

    python -m experiments.quickstart.overview quickstart/run OUT.png

Shows the two test patches whose true land cover is the most varied (entropy of
its classes).
"""

import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patches as shapes

from flairhub_jax import figures
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.inference import trained

TASK = FLAIR_HUB.tasks["AERIAL_LABEL-COSIA"]
SENSOR = "AERIAL_RGBI"


def entropy(truth: np.ndarray) -> float:
  """Entropy of the classes of a patch, in nats."""
  shares = np.bincount(truth.ravel()) / truth.size
  shares = shares[shares > 0]
  return float(-(shares * np.log(shares)).sum())


def main() -> None:
  """Draws the figure."""
  network = trained.load(sys.argv[1], None, "test")
  stream = network.dataset.open_stream("test", TASK.id)
  truths = [stream[i]["labels"][..., TASK.band] for i in range(len(stream))]
  chosen = sorted(range(len(truths)), key=lambda i: -entropy(truths[i]))[:2]
  predictions = network.runner.predictions(network.variables, chosen)
  images = network.dataset.open_stream("test", SENSOR)
  figure, axes = plt.subplots(1, 6, figsize=(12, 2.6), layout="constrained")
  panels, shown = [], set()
  for index in chosen:
    image = images[index]["values"]
    panels.append(figures.composite(image, FLAIR_HUB.sensors[SENSOR].bands))
    for classes in (truths[index], predictions[index][TASK.id]):
      panels.append(TASK.palette[classes])
      shown |= set(np.unique(classes).tolist())
  for axis, panel, title in zip(
    axes, panels, 2 * ["input", "truth", "prediction"], strict=True
  ):
    axis.imshow(panel, interpolation="nearest")
    axis.set_title(title, fontsize=11)
    axis.set_xticks([])
    axis.set_yticks([])
  figure.legend(
    handles=[
      shapes.Patch(facecolor=row.colour, edgecolor="0.5", label=row.name)
      for value, row in enumerate(TASK.classes)
      if value in shown
    ],
    loc="outside lower center",
    ncols=7,
    fontsize=9,
    frameon=False,
  )
  figure.savefig(sys.argv[2], dpi=110, bbox_inches="tight")


if __name__ == "__main__":
  main()
