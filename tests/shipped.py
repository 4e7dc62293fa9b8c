"""The configurations that the tests check one by one."""

from flairhub_jax.configs import (
  base,
  benchmark,
  finetune,
  quickstart,
  smoke_test,
)

CONFIGS = [
  base.get_config(),
  quickstart.get_config(),
  smoke_test.get_config("treesatai"),
  benchmark.get_config("LPIS-J"),
  finetune.get_config("LPIS-J"),
]
