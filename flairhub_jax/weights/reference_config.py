"""Conversion of the reference's training YAML to our configuration."""

from collections.abc import Iterable, Mapping
from typing import Any

from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build
from flairhub_jax.schema import LabelTask
from flairhub_jax.weights import reference_document

SENSORS = FLAIR_HUB.sensors
# The YAML has one crop task; a field selects the level of detail.
TASKS = {
  name: task for name, task in FLAIR_HUB.tasks.items() if task.parent is None
}
# Networks that the reference does not have.
NOT_IN_REFERENCE = ("swin_nano", "upernet_nano")
# Modalities whose list of bands the reference ignores: it reads all.
WITHOUT_BAND_CHOICE = ("AERIAL-RLT_PAN", "DEM_ELEV")
# The reference's `scheduler` -> ours; without one the rate is constant.
SCHEDULES = {
  "one_cycle_lr": "one_cycle",
  "reduce_on_plateau": "reduce_on_plateau",
  "cycle_then_plateau": "cycle_then_plateau",
}


def fill_config(
  document: Mapping[str, Any], config: Any, *, where: object
) -> list[str]:
  """Sets the fields of a configuration from the reference's YAML.

  Args:
    document: its files, joined by their top-level keys.
    config: a configuration of `configs/base.py`, changed in place; fields that
      are not in the YAML keep their values.
    where: name of the files in error messages.

  Returns:
    Notes on ignored and differing settings, one line each.

  Raises:
    InputError: an unknown name, a wrong type, classes other than ours, or an
      unsupported setting.
  """
  read = reference_document.parse(document, where=where)
  try:
    return _fill(read, config)
  except InputError as error:
    raise InputError(f"{where}: {error}") from error


def _fill(read: reference_document.Document, config: Any) -> list[str]:
  notes: list[str] = []
  _modalities(read.modalities, config, notes)
  _bands(read.modalities, config, notes)
  _preprocessing(read.modalities.pre_processings, config)
  _image_network(read.models.monotemp_model.arch, config)
  _copy(read.models.multitemp_model, config)
  # As the reference trains; predictions do not depend on it.
  config.model.utae.count_padding = True
  _note_extra("models.multitemp_model", read.models.multitemp_model, notes)
  tasks = read.labels
  if not tasks or len(set(tasks)) < len(tasks):
    raise InputError("labels", "at least one task, each once", tasks)
  _refuse_unknown("labels", tasks, TASKS)
  config.data.tasks = tuple(tasks)
  for task in tasks:
    labels = read.labels_configs.get(task, reference_document.Labels())
    _labels(labels, TASKS[task], config.tasks[task], notes)
  _hyperparameters(read.hyperparams, config, notes)
  return notes


def _copy(section: Any, config: Any) -> None:
  """Copies the fields that a section sets."""
  for name, path in reference_document.same_fields(type(section)).items():
    value = getattr(section, name)
    if value is not None:
      value = tuple(value) if isinstance(value, list) else value
      config.update_from_flattened_dict({path: value})


def _modalities(
  section: reference_document.Modalities, config: Any, notes: list[str]
) -> None:
  active = [name for name, is_active in section.inputs.items() if is_active]
  _refuse_unknown("modalities.inputs", active, SENSORS)
  if not active:
    raise InputError(
      "modalities.inputs", "at least one modality that is True", "none"
    )
  config.data.modalities = tuple(m for m in SENSORS if m in active)
  config.model.auxiliary = tuple(
    m for m in config.data.modalities if section.aux_loss.get(m)
  )
  weight = section.aux_loss_weight
  if weight is not None:
    config.auxiliary_weight.update(dict.fromkeys(SENSORS, weight))
  if any(map(section.modality_dropout.get, config.data.modalities)):
    notes.append(
      "modalities.modality_dropout: ignored; the reference also ignores these "
      "rates, and drops about half of all features"
    )


def _bands(
  section: reference_document.Modalities, config: Any, notes: list[str]
) -> None:
  """Bands of each modality, and their statistics by name."""
  if section.normalization.norm_type:
    config.data.normalisation = section.normalization.norm_type
  for modality in config.data.modalities:
    row = SENSORS[modality]
    if modality == "DEM_ELEV":
      bands = _elevation_bands(section.pre_processings)
    elif modality in WITHOUT_BAND_CHOICE:
      bands = row.bands
    else:
      numbers = section.inputs_channels.get(modality)
      place = f"modalities.inputs_channels.{modality}"
      if not numbers:
        raise InputError(place, "the channels to read, from 1", "none")
      last = len(row.bands)
      if len(set(numbers)) < len(numbers) or not all(
        1 <= number <= last for number in numbers
      ):
        raise InputError(place, f"numbers from 1 to {last}, each once", numbers)
      bands = tuple(row.bands[number - 1] for number in numbers)
    inputs = config.inputs[modality]
    inputs.bands = bands
    if not row.is_series and config.data.normalisation == "custom":
      mean, std = _statistics(section.normalization, modality, bands, notes)
      # By position, as in the reference: entry i is of the i-th channel read.
      inputs.mean = dict(zip(bands, mean, strict=False))
      inputs.std = dict(zip(bands, std, strict=False))


def _statistics(section, modality, bands, notes):
  """Means and standard deviations, at least as many as bands."""
  names = [f"{modality}_means", f"{modality}_stds"]
  places = [f"modalities.normalization.{name}" for name in names]
  mean, std = (section.model_extra.get(name) for name in names)
  for place, numbers in zip(places, (mean, std), strict=True):
    if not numbers or len(numbers) < len(bands):
      raise InputError(
        place, f"a number for each of {', '.join(bands)}", numbers
      )
  where = " and ".join(places)
  if len(mean) != len(std):
    raise InputError(where, "equal lengths", f"{len(mean)} and {len(std)}")
  if min(std) <= 0:
    raise InputError(places[1], "positive numbers", std)
  if len(mean) > len(bands):
    notes.append(
      f"{where}: {len(mean)} numbers for {len(bands)} channels; the first "
      f"{len(bands)} are used, in the order of the channels, as in the "
      "reference"
    )
  return mean, std


def _elevation_bands(
  section: reference_document.Preprocessing,
) -> tuple[str, ...]:
  if not section.calc_elevation:
    return ("DSM", "DTM")
  return ("DSM", "NDSM") if section.calc_elevation_stack_dsm else ("NDSM",)


def _preprocessing(
  section: reference_document.Preprocessing, config: Any
) -> None:
  _copy(section, config)
  if section.use_augmentation is not None:
    config.data.augment = ("symmetry",) if section.use_augmentation else ()
  config.data.cloud_filter.fallback = "snow_free"
  config.data.averaging = "reference"
  sentinel2 = section.temporal_average_sentinel2 or "none"
  sentinel1 = section.temporal_average_sentinel1 or "none"
  config.inputs["SENTINEL2_TS"].temporal_average = sentinel2
  for orbit in ("ASC", "DESC"):
    config.inputs[f"SENTINEL1-{orbit}_TS"].temporal_average = sentinel1


def _image_network(arch: str, config: Any) -> None:
  if all(SENSORS[m].is_series for m in config.data.modalities):
    return
  where = "models.monotemp_model.arch"
  encoder, hyphen, decoder = arch.partition("-")
  if not hyphen or "-" in decoder:
    raise InputError(where, "ENCODER-DECODER", repr(arch))
  for name, table in ((encoder, build.ENCODERS), (decoder, build.DECODERS)):
    names = [key for key in table if key not in NOT_IN_REFERENCE]
    _refuse_unknown(where, [name], names)
  config.model.encoder, config.model.decoder = encoder, decoder


def _labels(
  section: reference_document.Labels,
  row: LabelTask,
  settings: Any,
  notes: list[str],
) -> None:
  """Classes, their weights and the weight of the task."""
  where = f"labels_configs.{row.id}"
  check_classes(f"{where}.value_name", section.value_name, row)
  channel = section.label_channel_nomenclature
  if row.num_bands > 1 and channel not in (None, row.band + 1):
    raise InputError(
      f"{where}.label_channel_nomenclature",
      f"{row.band + 1}: the schema has no classes of the other levels",
      channel,
    )
  if section.task_weight is not None:
    settings.weight = section.task_weight
  where, weights = f"{where}.value_weights", section.value_weights
  if weights.default is None:
    notes.append(f"{where}.default: absent; class weights of the defaults")
    return
  values = [weights.default] * row.num_classes
  for key, weight in weights.default_exceptions.items():
    number = _class_number(f"{where}.default_exceptions", "classes", key, row)
    values[number] = weight
  if min(values) < 0 or max(values) == 0:
    raise InputError(where, "weights from 0, not all 0", values)
  settings.class_weights = tuple(values)
  if any(weights.per_modality_exceptions.values()):
    notes.append(
      f"{where}.per_modality_exceptions: ignored; auxiliary losses use the "
      "weights of the task"
    )


def _class_number(where: str, what: str, key: str, row: LabelTask) -> int:
  if not key.isdecimal() or int(key) >= row.num_classes:
    raise InputError(
      where, f"{what} from 0 to {row.num_classes - 1}", repr(key)
    )
  return int(key)


def check_classes(where: str, names: Mapping[str, str], row: LabelTask) -> None:
  """Refuses another number of classes, or ours in another order.

  Args:
    where: the section, for errors.
    names: number of a class, as text -> its name.
    row: our classes.

  Raises:
    InputError: they differ; names that only the reference has are ignored.
  """
  if len(names) != row.num_classes:
    raise InputError(
      where,
      f"the {row.num_classes} classes of {row.id}",
      f"{len(names)} classes",
    )

  def normalise(name):
    return "".join(letter for letter in name.lower() if letter.isalnum())

  ours = [normalise(label.name) for label in row.classes]
  for key, name in names.items():
    number = _class_number(where, "values", key, row)
    if normalise(name) in ours and ours[number] != normalise(name):
      raise InputError(f"{where}.{key}", row.classes[number].name, repr(name))


def _hyperparameters(
  section: reference_document.Hyperparameters, config: Any, notes: list[str]
) -> None:
  """Training settings, which do not affect predictions."""
  _copy(section, config)
  if section.optim_betas is not None:
    config.optim.beta1, config.optim.beta2 = section.optim_betas
  if section.scheduler is not None:
    config.optim.schedule = SCHEDULES[section.scheduler]
    if "plateau" in section.scheduler:
      notes.append(
        "hyperparams.scheduler: plateaus are of the score that selects the "
        "best checkpoint, not of the validation loss"
      )
  _note_extra("hyperparams", section, notes)


def _note_extra(where: str, section: Any, notes: list[str]) -> None:
  if section.model_extra:
    notes.append(f"{where}: ignored: {', '.join(section.model_extra)}")


def _refuse_unknown(
  where: str, names: Iterable[str], known: Iterable[str]
) -> None:
  unknown = [name for name in names if name not in known]
  if unknown:
    raise InputError(
      where, f"any of {', '.join(known)}", ", ".join(map(repr, unknown))
    )
