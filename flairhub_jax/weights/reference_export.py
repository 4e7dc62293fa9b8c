"""Conversion of our configuration to the reference's training YAML."""

from typing import Any

from flairhub_jax import schema_file
from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.weights import reference_document
from flairhub_jax.weights.reference_config import (
  NOT_IN_REFERENCE,
  SCHEDULES,
  SENSORS,
  TASKS,
  WITHOUT_BAND_CHOICE,
)

# Elevation bands -> `calc_elevation` (height above ground) and
# `calc_elevation_stack_dsm` (with the surface model).
_ELEVATION = {
  ("DSM", "NDSM"): (True, True),
  ("NDSM",): (True, False),
  ("DSM", "DTM"): (False, False),
}


def documents(
  config: Any, *, weights: str = ""
) -> tuple[dict[str, dict[str, Any]], list[str]]:
  """Converts a configuration to the reference's YAML.

  Args:
    config: a configuration of `configs/base.py`.
    weights: path of the checkpoint, for the YAML.

  Returns:
    File name -> document, as in the reference's `configs/train`; and a note
    for each setting that its YAML cannot express.

  Raises:
    InputError: a network that the reference cannot build.
  """
  _check_schema(config)
  _check_network(config)
  return {
    "config_modalities": {"modalities": _modalities(config)},
    "config_models": {"models": _models(config)},
    "config_supervision": _supervision(config),
    "config_task": _task(config, weights),
  }, _notes(config)


def _same(section: type, config: Any) -> dict[str, Any]:
  """Values of the fields common to both, under the reference's names."""
  values = {}
  for name, path in reference_document.same_fields(section).items():
    value = config[path]
    values[name] = list(value) if isinstance(value, tuple) else value
  return values


def _check_schema(config: Any) -> None:
  """Refuses sensors and classes that are not the reference's."""
  if lines := schema_file.contradictions(
    config.schema, FLAIR_HUB, sensors=config.schema.sensors, tasks=()
  ):
    raise InputError("config.schema", "FLAIR-HUB's sensors", lines[0])
  if missing := SENSORS.keys() - config.schema.sensors.keys():
    raise InputError(
      "config.schema",
      "all of FLAIR-HUB's sensors",
      f"a schema without {', '.join(sorted(missing))}",
    )
  for name in config.data.tasks:
    if name not in TASKS:
      raise InputError("config.data.tasks", f"any of {', '.join(TASKS)}", name)
    own, merge = config.schema.tasks[name], config.tasks[name].merge
    if merge or own.class_names != TASKS[name].class_names:
      raise InputError(
        f"config.data.tasks, {name}", "the reference's classes", "other classes"
      )


def _check_network(config: Any) -> None:
  model = config.model
  for field in ("encoder", "decoder"):
    if model[field] in NOT_IN_REFERENCE and _images(config):
      raise InputError(
        f"config.model.{field}", "a network of the reference", model[field]
      )
  # Without images, all of these average the logits of the series.
  kinds = ("mid_concat", "mid_mean", "late_mean")
  if config.fusion.kind not in kinds[: 1 if _images(config) else None]:
    raise InputError(
      "config.fusion.kind", "mid_concat, the reference's", config.fusion.kind
    )
  for modality in config.data.modalities:
    if modality in WITHOUT_BAND_CHOICE and _elevation(config, modality) is None:
      raise InputError(
        f"config.inputs.{modality}.bands",
        "bands that the reference reads",
        tuple(config.inputs[modality].bands),
      )


def _images(config):
  return [m for m in config.data.modalities if not SENSORS[m].is_series]


def _elevation(config, modality):
  bands = tuple(config.inputs[modality].bands)
  if modality == "DEM_ELEV":
    return _ELEVATION.get(bands)
  return (True, True) if bands == SENSORS[modality].bands else None


def _modalities(config: Any) -> dict[str, Any]:
  data, inputs = config.data, config.inputs
  channels, normalisation = {}, {"norm_type": data.normalisation}
  for modality, row in SENSORS.items():
    bands = tuple(inputs[modality].bands)
    if modality not in WITHOUT_BAND_CHOICE:
      channels[modality] = [row.bands.index(band) + 1 for band in bands]
    if not row.is_series:
      mean, std = inputs[modality].mean, inputs[modality].std
      normalisation |= {
        f"{modality}_means": [float(mean.get(band, 0.0)) for band in bands],
        f"{modality}_stds": [float(std.get(band, 1.0)) for band in bands],
      }
  elevation, stack = _elevation(config, "DEM_ELEV") or (True, True)
  return {
    "inputs": {m: m in data.modalities for m in SENSORS},
    "inputs_channels": channels,
    "aux_loss": {m: m in config.model.auxiliary for m in SENSORS},
    "aux_loss_weight": _auxiliary_weight(config),
    "modality_dropout": {m: 0 for m in SENSORS},
    "pre_processings": {
      **_same(reference_document.Preprocessing, config),
      "temporal_average_sentinel2": _period(config, "SENTINEL2_TS"),
      "temporal_average_sentinel1": _sentinel1_period(config),
      "calc_elevation": elevation,
      "calc_elevation_stack_dsm": stack,
      "use_augmentation": "symmetry" in config.data.augment,
    },
    "normalization": normalisation,
  }


def _period(config, modality):
  period = config.inputs[modality].temporal_average
  return False if period == "none" else period


def _sentinel1_period(config):
  """Returns the period of both orbits; the reference has one field for both."""
  orbits = [m for m in SENSORS if m.startswith("SENTINEL1")]
  active = [m for m in orbits if m in config.data.modalities] or orbits
  periods = {_period(config, m) for m in active}
  if len(periods) > 1:
    raise InputError(
      f"config.inputs.{active[1]}.temporal_average",
      f"that of {active[0]}: the reference has one for both",
      config.inputs[active[1]].temporal_average,
    )
  return periods.pop()


def _models(config: Any) -> dict[str, Any]:
  model = config.model
  names = (model.encoder, model.decoder)
  if not _images(config) and any(name in NOT_IN_REFERENCE for name in names):
    # No such network is built, but the field is mandatory.
    names = ("swin_tiny_patch4_window7_224", "upernet")
  return {
    "monotemp_model": {
      "arch": "-".join(names),
      "new_channels_init_mode": "random",
    },
    "multitemp_model": {
      **_same(reference_document.SeriesNetwork, config),
      "pad_value": 0,
    },
  }


def _supervision(config: Any) -> dict[str, Any]:
  label_configs = {}
  for task, row in TASKS.items():
    settings = config.tasks[task]
    weights = [float(weight) for weight in settings.class_weights]
    default = max(weights, key=weights.count)
    label_configs[task] = {
      "task_weight": settings.weight,
      "label_channel_nomenclature": row.band + 1,
      "value_name": {i: label.name for i, label in enumerate(row.classes)},
      "value_weights": {
        "default": default,
        "default_exceptions": {
          i: weight for i, weight in enumerate(weights) if weight != default
        },
        "per_modality_exceptions": {},
      },
    }
  return {"labels": list(config.data.tasks), "labels_configs": label_configs}


def _auxiliary_weight(config: Any) -> float:
  """Mean over the modalities; the reference has one weight for all."""
  names = config.model.auxiliary or config.data.modalities
  weights = [config.auxiliary_weight[name] for name in names]
  return sum(weights) / len(weights)


def _task(config: Any, weights: str) -> dict[str, Any]:
  """Settings of a prediction; the user fills in the data paths."""
  optim = config.optim
  schedules = {ours: theirs for theirs, ours in SCHEDULES.items()}
  return {
    "paths": {
      "out_folder": "results",
      "out_model_name": "flairhub_jax",
      "train_csv": "",
      "val_csv": "",
      "test_csv": "",
      "global_mtd_folder": "",
      "ckpt_model_path": weights,
    },
    "tasks": {
      "train": False,
      "train_tasks": {
        "init_weights_only_from_ckpt": False,
        "resume_training_from_ckpt": False,
      },
      "predict": True,
      "write_files": True,
      "georeferencing_output": True,
      "metrics_only": False,
    },
    "hyperparams": {
      **_same(reference_document.Hyperparameters, config),
      "optim_betas": [optim.beta1, optim.beta2],
      "scheduler": schedules.get(optim.schedule),
    },
    "hardware": {
      "accelerator": "auto",
      "num_nodes": 1,
      "gpus_per_node": 1,
      "strategy": "auto",
      "num_workers": 0,
    },
    "saving": {
      "ckpt_save_also_last": True,
      "ckpt_weights_only": False,
      "ckpt_monitor": "val_miou",
      "ckpt_monitor_mode": "max",
      "ckpt_earlystopping_patience": 20,
      "cp_csv_and_conf_to_output": True,
      "enable_progress_bar": True,
      "progress_rate": 10,
      "ckpt_verbose": True,
      "verbose_config": False,
    },
  }


def _notes(config: Any) -> list[str]:
  """Lists settings that the reference's YAML cannot express."""
  data, modalities, notes = config.data, config.data.modalities, []
  others = [name for name in data.augment if name != "symmetry"]
  if others:
    notes.append(f"the reference does not augment by {', '.join(others)}")
  if "SENTINEL2_TS" in modalities and (
    data.cloud_filter.enabled and data.cloud_filter.fallback != "snow_free"
  ):
    notes.append(
      "if no Sentinel-2 date passes the cloud filter, the reference keeps all "
      "dates without snow, however cloudy"
    )
  averaged = any(
    SENSORS[m].is_series and _period(config, m) for m in modalities
  )
  if averaged and data.averaging != "reference":
    notes.append("the reference averages dates differently (data.averaging)")
  return notes
