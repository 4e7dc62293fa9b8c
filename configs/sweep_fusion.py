"""Strategies of fusion, each with and without modality dropout, three seeds.

    flairhub sweep --config=configs/sweep_fusion.py --workdir=runs/fusion \
        --config.data.path=records

On the quickstart's sensors and network; `:mid_concat,mid_gated` chooses among
the strategies.
"""

from collections.abc import Callable, Sequence

import ml_collections

from flairhub_jax.configs import quickstart

KINDS = (
  "early",
  "mid_concat",
  "mid_mean",
  "mid_gated",
  "mid_attention",
  "late_mean",
  "late_gated",
)
SEEDS = (0, 1, 2)
DROPOUT = 0.3  # probability that training leaves a modality out of a sample


def get_runs(
  kinds: str = ",".join(KINDS),
) -> list[tuple[str, ml_collections.ConfigDict]]:
  """Returns name and configuration of each run."""
  return list_runs(quickstart.get_config, kinds.split(","))


def list_runs(
  get_config: Callable[[], ml_collections.ConfigDict],
  kinds: Sequence[str] = KINDS,
) -> list[tuple[str, ml_collections.ConfigDict]]:
  """Lists the runs of the sweep for any configuration.

  Ordered by seed, so that later seeds use the compilation cache.
  """
  runs = []
  for seed in SEEDS:
    for kind in kinds:
      for dropout in (0.0, DROPOUT):
        config = get_config().lock()
        config.seed = seed
        config.fusion.kind = kind
        for modality in config.data.modalities:
          config.fusion.modality_dropout[modality] = dropout
        suffix = "_dropout" if dropout else ""
        runs.append((f"{kind}{suffix}/seed-{seed}", config))
  return runs
