"""Fine-tuning: a published experiment from weights that are already trained.

    flairhub train --config=finetune:LPIS-A --workdir=runs/finetuned \
        --config.train.init_from=runs/imported --config.data.path=records

A starting point for your own data; the values are not tuned.
"""

import ml_collections

from flairhub_jax.configs import benchmark


def get_config(experiment: str) -> ml_collections.ConfigDict:
  """Returns an experiment of `benchmark` with small and decaying rates."""
  config = benchmark.get_config(experiment)
  config.data.augment = ("symmetry",)
  config.model.drop_path_rate = 0.2
  # Lower stages of pretrained encoders change least.
  config.optim.learning_rate = 2e-5
  config.optim.layer_decay = 0.8
  config.optim.encoder_rates.update(dict.fromkeys(config.data.modalities, 0.5))
  config.optim.clip_norm = 1.0
  config.optim.schedule = "cosine"
  config.optim.warmup_fraction = 0.05
  # Crops and covers are unbalanced, more so in a region.
  for task in config.data.tasks:
    config.tasks[task].frequency_power = 0.5
  config.loss.dice.weight = 1.0
  config.loss.cross_entropy.label_smoothing = 0.05
  config.train.num_epochs = 30
  config.train.ema_decay = 0.999
  config.train.validate_epochs = 2
  config.train.patience = 5
  return config
