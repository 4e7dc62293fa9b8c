"""From the reference's training YAML to a configuration of ours."""

from collections.abc import Iterable, Mapping
from typing import Any

from flairhub_jax.errors import InputError
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build
from flairhub_jax.schema import LabelTask
from flairhub_jax.weights import reference_document

SENSORS = FLAIR_HUB.sensors
# Its YAML has a task of crops; the levels below it are a number in it.
TASKS = {
  name: task for name, task in FLAIR_HUB.tasks.items() if task.parent is None
}
# Names that only we know: nothing of them comes from there or goes there.
OURS_ALONE = ("swin_nano", "upernet_nano")
# Modalities of which the reference reads all bands, whatever is listed.
WHOLE = ("AERIAL-RLT_PAN", "DEM_ELEV")
# Our names of the reference's `scheduler`; without one the rate is constant.
SCHEDULES = {
  "one_cycle_lr": "one_cycle",
  "reduce_on_plateau": "reduce_on_plateau",
  "cycle_then_plateau": "cycle_then_plateau",
}


def fill_config(
  document: Mapping[str, Any], config: Any, *, where: object
) -> list[str]:
  """Puts what the reference's YAML says into a configuration.

  Args:
    document: its files, joined by their top-level keys.
    config: a configuration of `configs/base.py`, changed in place; fields of
      which the YAML does not speak keep their values.
    where: what error messages call the files.

  Returns:
    Notes: what was ignored or differs, a line each.

  Raises:
    InputError: an unknown name, a value of another type, classes that are not
      ours, or something that no network here does.
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
  # The reference trains so; predictions do not depend on it.
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
  """Takes over the fields of a section that are given."""
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
      "modalities.modality_dropout: ignored; the reference ignores these rates "
      "too, and drops about half of all features"
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
    elif modality in WHOLE:
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
      # By position, as the reference: entry i is of the i-th chosen channel.
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
    raise InputError(where, "as many of each", f"{len(mean)} and {len(std)}")
  if min(std) <= 0:
    raise InputError(places[1], "positive numbers", std)
  if len(mean) > len(bands):
    notes.append(
      f"{where}: {len(mean)} numbers for {len(bands)} channels; the first "
      f"{len(bands)} are used, in the order of the channels, as the reference "
      "does"
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
    known = [key for key in table if key not in OURS_ALONE]
    _refuse_unknown(where, [name], known)
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
      f"{row.band + 1}: the other levels' classes are not in our table",
      channel,
    )
  if section.task_weight is not None:
    settings.weight = section.task_weight
  where, weights = f"{where}.value_weights", section.value_weights
  if weights.default is None:
    notes.append(f"{where}.default: absent; our weights are kept")
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

  def plain(name):
    return "".join(letter for letter in name.lower() if letter.isalnum())

  ours = [plain(label.name) for label in row.classes]
  for key, name in names.items():
    number = _class_number(where, "values", key, row)
    if plain(name) in ours and ours[number] != plain(name):
      raise InputError(f"{where}.{key}", row.classes[number].name, repr(name))


def _hyperparameters(
  section: reference_document.Hyperparameters, config: Any, notes: list[str]
) -> None:
  """Training settings, which do not affect what the weights compute."""
  _copy(section, config)
  if section.optim_betas is not None:
    config.optim.beta1, config.optim.beta2 = section.optim_betas
  if section.scheduler is not None:
    config.optim.schedule = SCHEDULES[section.scheduler]
    if "plateau" in section.scheduler:
      notes.append(
        "hyperparams.scheduler: plateaus are those of the score that chooses "
        "the best checkpoint, not of the validation loss"
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
