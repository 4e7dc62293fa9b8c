"""From the reference's training YAML to a configuration of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

from flairhub_jax.errors import InputError
from flairhub_jax.labels import TASKS
from flairhub_jax.modalities import MODALITIES
from flairhub_jax.models import build
from flairhub_jax.weights.reference_yaml import Section

# Names that only we know: nothing of them comes from there or goes there.
OURS_ALONE = ("swin_nano", "upernet_nano")
# Modalities of which the reference reads all bands, whatever is listed.
WHOLE = ("AERIAL-RLT_PAN", "DEM_ELEV")
# Our field of `config.model.utae` -> the reference's.
UTAE_LISTS = {
  "encoder_widths": "encoder_widths",
  "decoder_widths": "decoder_widths",
  "head_widths": "out_conv",
}
UTAE_NUMBERS = {
  "kernel": "str_conv_k",
  "stride": "str_conv_s",
  "padding": "str_conv_p",
  "num_heads": "n_head",
  "attention_width": "d_model",
  "key_width": "d_k",
}
UTAE_NAMES = {
  "aggregation": "agg_mode",
  "encoder_norm": "encoder_norm",
  "padding_mode": "padding_mode",
}
_MOST_LEVELS, _WIDEST = 8, 4096
_UTAE_OTHERS = ("ref_date", "pad_value")
# Our names of the reference's `scheduler`; without one the rate is constant.
SCHEDULES = {
  "one_cycle_lr": "one_cycle",
  "reduce_on_plateau": "reduce_on_plateau",
  "cycle_then_plateau": "cycle_then_plateau",
}
_OPTIMIZERS = ("adamw", "adam", "sgd")
_HYPERPARAMETERS = (
  "num_epochs batch_size seed learning_rate optimizer optim_weight_decay "
  "optim_betas scheduler warmup_fraction plateau_patience"
).split()


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
  top = Section(str(where), document, joint=": ")
  notes: list[str] = []
  _modalities(top.section("modalities"), config, notes)
  _bands(top.section("modalities"), config, notes)
  _preprocessing(top.section("modalities"), config)
  models = top.section("models")
  _image_network(models.section("monotemp_model"), config)
  _series_network(models.section("multitemp_model"), config, notes)
  _tasks(top, config)
  for task in config.data.tasks:
    _labels(top.section("labels_configs").section(task), task, config, notes)
  _hyperparameters(top.section("hyperparams"), config, notes)
  return [note.replace(f"{where}: ", "") for note in notes]


def _modalities(section: Section, config: Any, notes: list[str]) -> None:
  inputs, auxiliary = section.section("inputs"), section.section("aux_loss")
  active = [name for name in inputs if inputs.is_true(name)]
  _refuse_unknown(inputs.where, active, MODALITIES)
  if not active:
    raise InputError(inputs.where, "at least one modality that is True", "none")
  config.data.modalities = tuple(m for m in MODALITIES if m in active)
  config.model.auxiliary = tuple(
    m for m in config.data.modalities if auxiliary.is_true(m)
  )
  weight = section.number("aux_loss_weight")
  if weight is not None:
    config.auxiliary_weight.update(dict.fromkeys(MODALITIES, weight))
  dropout = section.section("modality_dropout")
  if any(dropout.number(m) for m in config.data.modalities if m in dropout):
    notes.append(
      f"{dropout.where}: ignored; the reference ignores these rates too, and "
      "drops about half of all maps"
    )


def _bands(section: Section, config: Any, notes: list[str]) -> None:
  """Which bands each modality reads, and their statistics by name."""
  channels = section.section("inputs_channels")
  normalisation = section.section("normalization")
  kind = normalisation.text("norm_type")
  if kind is not None:
    kinds = ("custom", "scaling", "without")
    _refuse_unknown(normalisation.place("norm_type"), [kind], kinds)
    config.data.normalisation = kind
  for modality in config.data.modalities:
    row = MODALITIES[modality]
    if modality == "DEM_ELEV":
      bands = _elevation_bands(section.section("pre_processings"))
    elif modality in WHOLE:
      bands = row.bands
    else:
      numbers = channels.whole_numbers(modality)
      place, last = channels.place(modality), len(row.bands)
      if not numbers:
        raise InputError(place, "the channels to read, from 1", "none")
      if len(set(numbers)) < len(numbers) or not all(
        1 <= number <= last for number in numbers
      ):
        raise InputError(place, f"numbers from 1 to {last}, each once", numbers)
      bands = tuple(row.bands[number - 1] for number in numbers)
    inputs = config.inputs[modality]
    inputs.bands = bands
    if not row.is_series and config.data.normalisation == "custom":
      names = [f"{modality}_means", f"{modality}_stds"]
      mean, std = (normalisation.numbers(name) for name in names)
      _check_statistics(normalisation, names, (mean, std), bands, notes)
      # By position, as the reference: entry i is of the i-th chosen channel.
      inputs.mean = dict(zip(bands, mean, strict=False))
      inputs.std = dict(zip(bands, std, strict=False))


def _check_statistics(section, names, values, bands, notes):
  for name, numbers in zip(names, values, strict=True):
    if not numbers or len(numbers) < len(bands):
      raise InputError(
        section.place(name), f"a number for each of {', '.join(bands)}", numbers
      )
  mean, std = values
  where = " and ".join(map(section.place, names))
  if len(mean) != len(std):
    raise InputError(where, "as many of each", f"{len(mean)} and {len(std)}")
  if min(std) <= 0:
    raise InputError(section.place(names[1]), "positive numbers", std)
  if len(mean) > len(bands):
    notes.append(
      f"{where}: {len(mean)} numbers for {len(bands)} channels; the first "
      f"{len(bands)} are used, in the order of the channels, as the reference "
      "does"
    )


def _elevation_bands(section: Section) -> tuple[str, ...]:
  if section.is_true("calc_elevation") is False:
    return ("DSM", "DTM")
  if section.is_true("calc_elevation_stack_dsm") is False:
    return ("NDSM",)
  return ("DSM", "NDSM")


def _preprocessing(section: Section, config: Any) -> None:
  section = section.section("pre_processings")
  cloud_filter = config.data.cloud_filter
  for settings, field, name in (
    (cloud_filter, "enabled", "filter_sentinel2"),
    (config.data, "augment", "use_augmentation"),
  ):
    value = section.is_true(name)
    if value is not None:
      settings[field] = value
  cloud_filter.fallback = "snow_free"
  for field, name in (
    ("max_cloud", "filter_sentinel2_max_cloud"),
    ("max_snow", "filter_sentinel2_max_snow"),
    ("max_cover", "filter_sentinel2_max_frac_cover"),
  ):
    value = section.number(name)
    if value is not None:
      cloud_filter[field] = value
  config.data.averaging = "reference"
  for name, modalities in (
    ("temporal_average_sentinel2", ("SENTINEL2_TS",)),
    (
      "temporal_average_sentinel1",
      ("SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS"),
    ),
  ):
    for modality in modalities:
      config.inputs[modality].temporal_average = _period(section, name)


def _period(section: Section, name: str) -> str:
  """False or one of the periods."""
  try:
    if not section.is_true(name):
      return "none"
  except InputError:
    pass
  period = section.text(name) if name in section else "none"
  periods = ("monthly", "semi-monthly")
  if period not in periods:
    raise InputError(
      section.place(name), f"False, {' or '.join(periods)}", repr(period)
    )
  return period


def _image_network(section: Section, config: Any) -> None:
  if all(MODALITIES[m].is_series for m in config.data.modalities):
    return
  where, arch = section.place("arch"), section.text("arch")
  encoder, hyphen, decoder = (arch or "").partition("-")
  if not hyphen or "-" in decoder:
    raise InputError(where, "ENCODER-DECODER", repr(arch))
  for name, table in ((encoder, build.ENCODERS), (decoder, build.DECODERS)):
    known = [key for key in table if key not in OURS_ALONE]
    _refuse_unknown(where, [name], known)
  config.model.encoder, config.model.decoder = encoder, decoder


def _series_network(section: Section, config: Any, notes: list[str]) -> None:
  utae = config.model.utae
  # The reference trains so; predictions do not depend on it.
  utae.count_padding = True
  date = section.text("ref_date")
  if date is not None:
    config.data.reference_date = date
  if section.number("pad_value"):
    raise InputError(section.place("pad_value"), "0", "another number")
  for field, name in UTAE_LISTS.items():
    widths = section.whole_numbers(name)
    if widths is not None:
      if not 1 <= len(widths) <= _MOST_LEVELS or not all(
        1 <= width <= _WIDEST for width in widths
      ):
        raise InputError(
          section.place(name),
          f"up to {_MOST_LEVELS} widths from 1 to {_WIDEST}",
          widths[: _MOST_LEVELS + 1],
        )
      utae[field] = widths
  for field, name in UTAE_NUMBERS.items():
    value = section.whole(name, at_least=0 if field == "padding" else 1)
    if value is not None:
      if value > _WIDEST:
        raise InputError(section.place(name), f"at most {_WIDEST}", value)
      utae[field] = value
  for field, name in UTAE_NAMES.items():
    value = section.text(name)
    if value is not None:
      utae[field] = value
  known = (
    *UTAE_LISTS.values(),
    *UTAE_NUMBERS.values(),
    *UTAE_NAMES.values(),
    *_UTAE_OTHERS,
  )
  _note_unknown(section, known, notes)


def _tasks(top: Section, config: Any) -> None:
  tasks = top.texts("labels")
  if not tasks or len(set(tasks)) < len(tasks):
    raise InputError(top.place("labels"), "at least one task, each once", tasks)
  _refuse_unknown(top.place("labels"), tasks, TASKS)
  config.data.tasks = tasks


def _labels(section: Section, task: str, config: Any, notes: list[str]) -> None:
  """Classes, their weights and the weight of the task."""
  row, settings = TASKS[task], config.labels[task]
  _check_classes(section.section("value_name"), row)
  if row.num_bands > 1:
    channel = section.whole("label_channel_nomenclature")
    if channel not in (None, row.band + 1):
      raise InputError(
        section.place("label_channel_nomenclature"),
        f"{row.band + 1}: the other levels' classes are not in our table",
        channel,
      )
  weight = section.number("task_weight")
  if weight is not None:
    settings.weight = weight
  weights = section.section("value_weights")
  default = weights.number("default")
  if default is None:
    notes.append(f"{weights.place('default')}: absent; our weights are kept")
    return
  values = [default] * row.num_classes
  exceptions = weights.section("default_exceptions")
  for key in exceptions:
    if not key.isdecimal() or int(key) >= row.num_classes:
      raise InputError(
        exceptions.where, f"classes from 0 to {row.num_classes - 1}", repr(key)
      )
    value = exceptions.number(key)
    values[int(key)] = default if value is None else value
  if min(values) < 0 or max(values) == 0:
    raise InputError(weights.where, "weights from 0, not all 0", values)
  settings.class_weights = tuple(values)
  others = weights.section("per_modality_exceptions")
  if any(len(others.section(name)) for name in others):
    notes.append(
      f"{others.where}: ignored; auxiliary losses use the weights of the task"
    )


def _check_classes(section: Section, row: Any) -> None:
  """Refuses another number of classes, or ours in another order."""
  if len(section) != row.num_classes:
    raise InputError(
      section.where,
      f"the {row.num_classes} classes of {row.id}",
      f"{len(section)} classes",
    )

  def plain(name):
    return "".join(letter for letter in name.lower() if letter.isalnum())

  ours = [plain(label.name) for label in row.classes]
  for key in section:
    name = section.text(key)
    if not key.isdecimal() or int(key) >= row.num_classes:
      raise InputError(
        section.where, f"values from 0 to {row.num_classes - 1}", repr(key)
      )
    if plain(name or "") in ours and ours[int(key)] != plain(name):
      raise InputError(
        f"{section.where}.{key}", row.classes[int(key)].name, repr(name)
      )


def _hyperparameters(section: Section, config: Any, notes: list[str]) -> None:
  """How it was trained; nothing of it changes what the weights compute."""
  for name, at_least, target, field in (
    ("num_epochs", 1, config.train, "num_epochs"),
    ("batch_size", 1, config.data, "batch_size"),
    ("seed", 0, config, "seed"),
  ):
    value = section.whole(name, at_least=at_least)
    if value is not None:
      target[field] = value
  for name, field in (
    ("learning_rate", "learning_rate"),
    ("optim_weight_decay", "weight_decay"),
    ("warmup_fraction", "warmup_fraction"),
  ):
    value = section.number(name)
    if value is not None:
      config.optim[field] = value
  betas = section.numbers("optim_betas")
  if betas is not None:
    if len(betas) != 2:
      raise InputError(section.place("optim_betas"), "two numbers", betas)
    config.optim.beta1, config.optim.beta2 = betas
  patience = section.whole("plateau_patience", at_least=0)
  if patience is not None:
    config.optim.plateau.patience = patience
  optimizer, schedule = section.text("optimizer"), section.text("scheduler")
  if optimizer is not None:
    _refuse_unknown(section.place("optimizer"), [optimizer], _OPTIMIZERS)
    config.optim.name = optimizer
  if schedule is not None:
    _refuse_unknown(section.place("scheduler"), [schedule], SCHEDULES)
    config.optim.schedule = SCHEDULES[schedule]
    if "plateau" in schedule:
      notes.append(
        f"{section.place('scheduler')}: plateaus are those of the score that "
        "chooses the best checkpoint, not of the validation loss"
      )
  _note_unknown(section, _HYPERPARAMETERS, notes)


def _note_unknown(section: Section, known: Sequence[str], notes: list[str]):
  unknown = [name for name in section if name not in known]
  if unknown:
    notes.append(f"{section.where}: ignored: {', '.join(unknown)}")


def _refuse_unknown(where, names: Sequence[str], known) -> None:
  unknown = [name for name in names if name not in known]
  if unknown:
    raise InputError(
      where, f"any of {', '.join(known)}", ", ".join(map(repr, unknown))
    )
