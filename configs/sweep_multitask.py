"""Land cover, crops, or both tasks with different loss weights.

    flairhub sweep --config=configs/sweep_multitask.py --workdir=runs/tasks \
        --config.data.path=records

On the quickstart's sensors and network.
"""

import ml_collections

from flairhub_jax.configs import quickstart

COVER, CROPS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"
# Weights of the two losses; a task without weight is not trained at all.
WEIGHTS = {
  "land_cover": (1.0, 0.0),
  "crops": (0.0, 1.0),
  "both": (1.0, 1.0),
  "both_crops_0.3": (1.0, 0.3),
  "both_crops_3": (1.0, 3.0),
  "both_learned": (1.0, 1.0),
}
SEEDS = (0, 1, 2)


def get_runs() -> list[tuple[str, ml_collections.ConfigDict]]:
  """Returns name and configuration of each run."""
  runs = []
  for name, weights in WEIGHTS.items():
    for seed in SEEDS:
      config = quickstart.get_config().lock()
      config.seed = seed
      weight_of = dict(zip((COVER, CROPS), weights, strict=True))
      config.data.tasks = tuple(task for task in weight_of if weight_of[task])
      for task in config.data.tasks:
        config.tasks[task].weight = weight_of[task]
      if name == "both_learned":
        config.task_weighting = "uncertainty"
      runs.append((f"{name}/seed-{seed}", config))
  return runs
