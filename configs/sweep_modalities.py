"""Sensors compared: every published experiment, LC-A to LPIS-K.

    flairhub sweep --config=configs/sweep_modalities.py --workdir=runs/sensors \
        --config.data.path=records --executor=slurm --time=1440 --gpus=4

`:small` gives the same rows the quickstart's network, for simulated data of
all seven modalities and CPUs.
"""

import ml_collections

from flairhub_jax.configs import benchmark, quickstart
from flairhub_jax.errors import InputError

SEEDS = (0, 1, 2)


def get_runs(
  size: str = "published",
) -> list[tuple[str, ml_collections.ConfigDict]]:
  """Returns name and configuration of each run."""
  if size not in ("published", "small"):
    raise InputError("configs/sweep_modalities.py", "published or small", size)
  runs = []
  for experiment in benchmark.EXPERIMENTS:
    for seed in SEEDS:
      config = published = benchmark.get_config(experiment)
      if size == "small":
        config = quickstart.get_config().lock()
        config.data.modalities = published.data.modalities
        config.data.tasks = published.data.tasks
        config.model.auxiliary = published.model.auxiliary
      config.seed = seed
      runs.append((f"{experiment}/seed-{seed}", config))
  return runs
