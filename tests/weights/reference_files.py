"""Checkpoints and YAML such as the reference leaves, of any small network."""

import copy
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
import yaml

from flairhub_jax.configs import base
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build
from flairhub_jax.weights import reference, reference_config, reference_only

COVER, CROPS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"

# Pixels per side, small enough for tests.
SIDES = {"AERIAL_RGBI": 64}

# As the reference's configs/train has it, in the order of its files.
DOCUMENT = {
  "modalities": {
    "inputs": {m: m == "AERIAL_RGBI" for m in FLAIR_HUB.sensors},
    "inputs_channels": {
      "AERIAL_RGBI": [4, 1, 2],
      "SPOT_RGBI": [4, 1, 2],
      "SENTINEL2_TS": list(range(1, 11)),
      "SENTINEL1-ASC_TS": [1, 2],
      "SENTINEL1-DESC_TS": [1, 2],
    },
    "aux_loss": {m: False for m in FLAIR_HUB.sensors},
    "aux_loss_weight": 1.5,
    "modality_dropout": {m: 0 for m in FLAIR_HUB.sensors},
    "pre_processings": {
      "filter_sentinel2": True,
      "filter_sentinel2_max_cloud": 1,
      "filter_sentinel2_max_snow": 1,
      "filter_sentinel2_max_frac_cover": 0.05,
      "temporal_average_sentinel2": False,
      "temporal_average_sentinel1": False,
      "calc_elevation": True,
      "calc_elevation_stack_dsm": True,
      "use_augmentation": False,
    },
    "normalization": {
      "norm_type": "custom",
      "AERIAL_RGBI_means": [106.59, 105.66, 111.35],
      "AERIAL_RGBI_stds": [39.78, 52.23, 45.62],
      "AERIAL-RLT_PAN_means": [125.92],
      "AERIAL-RLT_PAN_stds": [38.45],
      "SPOT_RGBI_means": [433.26, 508.75, 467.77, 1137.03],
      "SPOT_RGBI_stds": [312.76, 284.61, 226.02, 543.11],
      "DEM_ELEV_means": [311.06, 311.06],
      "DEM_ELEV_stds": [537.55, 537.55],
    },
  },
  "models": {
    "monotemp_model": {
      "arch": "convnextv2_atto-unet",
      "new_channels_init_mode": "random",
    },
    "multitemp_model": {
      "ref_date": "05-15",
      "encoder_widths": [64, 64, 64, 128],
      "decoder_widths": [32, 32, 64, 128],
      "out_conv": [32, 19],
      "str_conv_k": 3,
      "str_conv_s": 1,
      "str_conv_p": 1,
      "agg_mode": "att_group",
      "encoder_norm": "group",
      "n_head": 16,
      "d_model": 256,
      "d_k": 4,
      "pad_value": 0,
      "padding_mode": "reflect",
    },
  },
  "labels": [COVER],
  "labels_configs": {
    task: {
      "task_weight": 1,
      "label_channel_nomenclature": 1,
      "value_name": {i: c.name for i, c in enumerate(row.classes)},
      "value_weights": {
        "default": 1,
        "default_exceptions": {15: 0, 16: 0, 17: 0, 18: 0}
        if task == COVER
        else None,
        "per_modality_exceptions": {"SENTINEL2_TS": None},
      },
    }
    for task, row in FLAIR_HUB.tasks.items()
    if row.parent is None
  },
  "hyperparams": {
    "num_epochs": 150,
    "batch_size": 5,
    "seed": 2025,
    "learning_rate": 0.00005,
    "optimizer": "adamw",
    "optim_weight_decay": 0.01,
    "optim_betas": [0.9, 0.999],
    "scheduler": "one_cycle_lr",
    "warmup_fraction": 0.2,
    "plateau_patience": 10,
  },
}


def document(**changes: Any) -> dict[str, Any]:
  """The YAML with values put at dotted paths (`__` stands for a point)."""
  changed = copy.deepcopy(DOCUMENT)
  for path, value in changes.items():
    *parents, name = path.split("__")
    node = changed
    for parent in parents:
      node = node[parent]
    node[name] = value
  return changed


def network(
  arch: str = "convnextv2_atto-unet",
  active: Sequence[str] = ("AERIAL_RGBI",),
  tasks: Sequence[str] = (COVER,),
  auxiliary: Sequence[str] = (),
  **changes: Any,
) -> dict[str, Any]:
  """The YAML of a network."""
  changed = document(labels=list(tasks), **changes)
  changed["models"]["monotemp_model"]["arch"] = arch
  for modality in FLAIR_HUB.sensors:
    changed["modalities"]["inputs"][modality] = modality in active
    changed["modalities"]["aux_loss"][modality] = modality in auxiliary
  return changed


def config_of(changed: Mapping[str, Any]) -> Any:
  """Our configuration of a YAML."""
  config = base.get_config()
  reference_config.fill_config(changed, config, where="YAML")
  return config


def shapes_of(
  config: Any, sides: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Shapes of variables for images of these sides: ours, reference only."""
  for modality, side in sides.items():
    config.inputs[modality].pixels = side
  segmenter = build.build_segmenter(config)
  batch = build.input_shapes(config)
  unused = reference_only.describe(segmenter, batch)
  return build.variables_shape(segmenter, batch), reference_only.shape_of(
    unused
  )


def tensors_of(
  changed: Mapping[str, Any],
  sides: Mapping[str, int],
  *,
  prefix: str = "model.",
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Random weights and counters of a network, with class weights."""
  import jax

  config, rng = config_of(changed), np.random.default_rng(seed)

  def draw(leaf):
    if np.issubdtype(leaf.dtype, np.integer):
      return rng.integers(1, 10**6, leaf.shape).astype(leaf.dtype)
    return (0.1 + 0.05 * rng.random(leaf.shape)).astype(leaf.dtype)

  own, unused = jax.tree.map(draw, shapes_of(config, sides))
  tensors = reference.to_reference(own, prefix=prefix)
  tensors |= reference.to_reference(unused, prefix=prefix)
  return tensors | reference.class_weights(
    {task: config.tasks[task].class_weights for task in config.data.tasks},
    config.model.auxiliary,
  )


def write(
  folder: pathlib.Path,
  changed: Mapping[str, Any],
  sides: Mapping[str, int],
  *,
  prefix: str = "model.",
  edit: Callable[[dict[str, np.ndarray]], None] | None = None,
) -> tuple[pathlib.Path, pathlib.Path]:
  """Writes a checkpoint and its folder of YAML files."""
  tensors = tensors_of(changed, sides, prefix=prefix)
  if edit is not None:
    edit(tensors)
  weights, configs = folder / "weights.safetensors", folder / "configs_train"
  configs.mkdir(parents=True)
  safetensors.numpy.save_file(tensors, weights)
  write_yaml(configs, changed)
  return weights, configs


def write_yaml(configs: pathlib.Path, changed: Mapping[str, Any]) -> None:
  """One file per group of top-level keys, as the reference has them."""
  for name, keys in {
    "config_modalities": ["modalities"],
    "config_models": ["models"],
    "config_supervision": ["labels", "labels_configs"],
    "config_task": ["hyperparams"],
  }.items():
    part = {key: changed[key] for key in keys if key in changed}
    (configs / f"{name}.yaml").write_text(
      yaml.safe_dump(part, sort_keys=False), encoding="utf-8"
    )


def write_pickle(path: pathlib.Path) -> None:
  """A file that begins as those of torch.save do."""
  path.write_bytes(b"PK\x03\x04" + bytes(100))
