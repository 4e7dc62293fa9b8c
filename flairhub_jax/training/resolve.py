"""Completes a configuration from the data, and checks it before training."""

from typing import Any

import numpy as np

from flairhub_jax import configuration, mesh, metrics
from flairhub_jax.data import pipeline, records
from flairhub_jax.errors import InputError
from flairhub_jax.training import class_counts, criterion, losses, optim

_BATCH_STATISTICS = ("global", "device")


def resolve(config: Any, dataset: records.Dataset) -> Any:
  """Sets fields that depend on the data: steps, sizes, metric, fingerprint.

  Raises:
    InputError: there is no training split, or a value is invalid.
  """
  config = config.copy_and_resolve_references()
  if "train" not in dataset.splits:
    raise InputError(dataset.folder, "a train split", sorted(dataset.splits))
  num_patches = dataset.splits["train"].num_patches
  batch_size = config.data.batch_size
  with config.unlocked():
    config.data.fingerprint = dataset.fingerprint
    set_pixels(config, dataset)
    _set_lengths(config, dataset)
    if config.train.num_steps is None:
      passes = config.train.num_epochs * num_patches
      config.train.num_steps = max(1, passes // batch_size)
    if config.train.validate_every is None:
      passes = config.train.validate_epochs * num_patches
      config.train.validate_every = max(1, passes // batch_size)
    if config.train.best_metric is None:
      config.train.best_metric = f"{config.data.tasks[0]}/miou"
  _check_devices(config)
  optim.build_optimizer(config.optim, config.train.num_steps)
  criterion.build_criterion(
    config,
    class_counts.of_merged(config, dataset.splits["train"].class_counts),
  )
  if config.train.batch_statistics not in _BATCH_STATISTICS:
    raise InputError(
      "config.train.batch_statistics",
      f"one of {', '.join(_BATCH_STATISTICS)}",
      repr(config.train.batch_statistics),
    )
  has_plateaus = "plateau" in config.optim.schedule or config.train.patience
  if has_plateaus and "valid" not in dataset.splits:
    raise InputError(
      dataset.folder,
      "a valid split to detect a plateau",
      sorted(dataset.splits),
    )
  _check_metric(config)
  return config


def set_pixels(config: Any, dataset: records.Dataset) -> None:
  """Sets number and size of the pixels of a patch to those of the data."""
  for modality in config.data.modalities:
    if modality in dataset.modalities:
      info = dataset.modalities[modality]
      config.inputs[modality].pixels = info.shape[-2]
      if info.gsd is not None:
        config.inputs[modality].gsd = info.gsd


def _check_metric(config):
  """Checks that validation computes the best metric."""
  averages, classes = [], []
  for name, task in configuration.label_tasks(config).items():
    scored = np.flatnonzero(np.asarray(config.tasks[name].class_weights) > 0)
    averages += metrics.score_names(task, ())
    classes += metrics.score_names(task, scored)
  if config.train.best_metric not in classes:
    raise InputError(
      "config.train.best_metric",
      f"one of {', '.join(averages)}, or <task>/iou/<scored class>",
      repr(config.train.best_metric),
    )


def _set_lengths(config, dataset):
  """Sets the number of dates of the longest padded series."""
  options = pipeline.build_read_options(config)
  padding = pipeline.PatchReader(dataset, "train", options).padding
  for series, length in padding.longest.items():
    config.inputs[series].num_dates = length


def _check_devices(config):
  """Checks that devices and accumulation divide the batch size."""
  mesh.build_mesh(**config.mesh)
  num_parts = config.train.accumulation
  mesh.local_batch_size(config.data.batch_size, num_parts)
  weighted = losses.weighted(config.loss)
  others = [name for name, kind in weighted.items() if not kind.is_additive]
  if num_parts > 1 and others:
    raise InputError(
      "config.train.accumulation",
      f"1 with {' and '.join(others)}, which need the whole batch at once",
      num_parts,
    )
