"""The reference's YAML of zonal detection, as options of a map."""

import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from flairhub_jax import configuration
from flairhub_jax.errors import InputError, InputErrors
from flairhub_jax.schema import Sensor
from flairhub_jax.weights import reference_config, reference_document

# Option -> value that has no effect here, and why.
_WITHOUT_EFFECT = {
  "use_gpu": (False, "all devices are used; JAX_PLATFORMS=cpu chooses CPUs"),
  "cog_conversion": (False, "maps are always Cloud-Optimized GeoTIFFs"),
  "write_dataframe": (True, "windows are not listed"),
}
_LARGEST_DIFFERENCE = 0.01


class _Section(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(
    strict=True, extra="forbid", allow_inf_nan=False
  )


class _Normalization(_Section):
  type: str | None = None
  means: list[float] = []
  stds: list[float] = []


class _Modality(_Section):
  """`modalities.<sensor>`."""

  input_img_path: str | None = None
  channels: list[int] = []
  normalization: _Normalization = _Normalization()
  calc_elevation: bool | None = None
  calc_elevation_stack_dsm: bool | None = None
  dates_txt: str | None = None
  filter_clouds: bool = False
  filter_clouds_img_path: str | None = None
  temporal_average: Literal[False, "monthly", "semi-monthly"] = False


class _Modalities(_Section):
  """`modalities`; beside `inputs` a section per sensor."""

  model_config = pydantic.ConfigDict(strict=True, extra="allow")
  inputs: dict[str, bool]
  __pydantic_extra__: dict[str, _Modality] = pydantic.Field(init=False)


class _Task(_Section):
  """An entry of `tasks`."""

  name: str
  active: bool
  class_names: dict[str, str] = {}


class _Document(_Section):
  """The whole file."""

  output_path: str
  output_name: str
  write_dataframe: bool = False
  output_type: Literal["argmax", "class_prob"] = "argmax"
  cog_conversion: bool | None = None
  model_weights: str | None = None
  use_gpu: bool | None = None
  batch_size: int | None = None
  num_worker: int | None = None
  img_pixels_detection: int
  margin: int
  output_px_meters: float | None = None
  monotemp_arch: str | None = None
  multitemp_model_ref_date: str | None = None
  modalities: _Modalities
  tasks: list[_Task]


def is_reference(content: Mapping[str, Any]) -> bool:
  """Whether a file is one of the reference."""
  return "modalities" in content or "img_pixels_detection" in content


def translate(
  content: Mapping[str, Any], config: Any, *, where: pathlib.Path
) -> tuple[dict[str, Any], list[str]]:
  """Options of `flairhub zonal`, as `zone_file` takes them.

  Args:
    content: of the YAML file.
    config: configuration of the run.
    where: the file.

  Returns:
    Options, and lines on what is ignored or differs.

  Raises:
    InputErrors: unknown keys or values of another type.
    InputError: what contradicts the run.
  """
  document = reference_document.validate(_Document, content, where=where)
  notes = [
    f"{where}: {key}: ignored; {reason}"
    for key, (value, reason) in _WITHOUT_EFFECT.items()
    if getattr(document, key) is value
  ]
  if document.model_weights is not None:
    notes.append(f"{where}: model_weights: ignored; weights are those of --run")
  _check_network(document, config, where)
  _check_tasks(document, config, where)
  options: dict[str, Any] = {
    "out": f"{document.output_path.rstrip('/')}/{document.output_name}.tif",
    "window": document.img_pixels_detection,
    "margin": document.margin,
    "batch": document.batch_size,
    "resolution": document.output_px_meters,
  }
  if document.output_type == "class_prob":
    options["probabilities"] = ["all"]
    notes.append(
      f"{where}: output_type: class_prob adds a file of probabilities, in"
      " steps of 1/250, to the map of classes"
    )
  active = [name for name, on in document.modalities.inputs.items() if on]
  table = config.schema.sensors
  for name in active:
    if name not in config.data.modalities:
      known = ", ".join(config.data.modalities)
      raise InputError(
        f"{where}: modalities.inputs", f"sensors of the run, {known}", name
      )
    section = (document.modalities.model_extra or {}).get(name, _Modality())
    place = f"{where}: modalities.{name}"
    _add(table[name], section, config, place, options, notes)
  options["assume-gsd"] = active
  notes.append(
    f"{where}: rasters keep their pixels, as in the reference (--assume-gsd)"
  )
  return {k: v for k, v in options.items() if v is not None}, notes


def _check_network(document: _Document, config: Any, where) -> None:
  """Refuses a network or a reference date that is not the run's."""
  model = config.model
  has_image = any(
    not config.schema.sensors[name].is_series for name in config.data.modalities
  )
  for key, own in (
    (
      "monotemp_arch",
      f"{model.encoder}-{model.decoder}" if has_image else None,
    ),
    ("multitemp_model_ref_date", config.data.reference_date[-5:]),
  ):
    value = getattr(document, key)
    if value is not None and own is not None and value != own:
      raise InputError(f"{where}: {key}", f"{own}, as the run has", value)


def _check_tasks(document: _Document, config: Any, where) -> None:
  """Refuses tasks of which the run has none, and classes in another order."""
  tasks = configuration.label_tasks(config)
  active = {task.name: task for task in document.tasks if task.active}
  if active.keys() != tasks.keys():
    raise InputError(
      f"{where}: tasks",
      f"the tasks of the run active, {', '.join(tasks)}",
      ", ".join(active) or "none",
    )
  problems = []
  for name, task in active.items():
    try:
      reference_config.check_classes(
        f"{where}: tasks.{name}.class_names", task.class_names, tasks[name]
      )
    except InputError as error:
      problems.append(str(error))
  if problems:
    raise InputErrors(problems)


def _add(
  sensor: Sensor, section: _Modality, config, place, options, notes
) -> None:
  """Adds the options of a sensor."""
  name = sensor.id
  if section.input_img_path is None:
    raise InputError(f"{place}.input_img_path", "a raster", "none")
  options.setdefault("input", {})[name] = section.input_img_path
  if section.dates_txt is not None:
    options.setdefault("dates", {})[name] = section.dates_txt
  if section.filter_clouds and section.filter_clouds_img_path is not None:
    options.setdefault("mask", {})[name] = section.filter_clouds_img_path
  bands = _bands(sensor, section, config, place, notes)
  if bands != list(range(1, len(sensor.bands) + 1)):
    options.setdefault("bands", {})[name] = bands
  if sensor.is_series:
    own = config.inputs[name].temporal_average
    if (section.temporal_average or "none") != own:
      notes.append(f"{place}.temporal_average: ignored; the run has {own}")
    return
  _compare_statistics(sensor, section, config, place, notes)


def _bands(sensor, section, config, place, notes) -> list[int]:
  """Bands of the file, from 1, that become those of the sensor.

  The reference lists those that its network reads, in the network's order.
  """
  every = list(range(1, len(sensor.bands) + 1))
  chosen = tuple(config.inputs[sensor.id].bands)
  numbers = section.channels
  if sensor.id in reference_config.WITHOUT_BAND_CHOICE:
    if numbers:
      notes.append(f"{place}.channels: ignored; all bands are read")
    return every
  if not numbers:
    return every
  if len(numbers) != len(chosen) or min(numbers) < 1:
    raise InputError(
      f"{place}.channels",
      f"the bands of the file, from 1, for {', '.join(chosen)}",
      numbers,
    )
  place_of = dict(zip(chosen, numbers, strict=True))
  return [
    # What the network does not read may be any band that exists.
    place_of.get(band, min(every[i], max(numbers)))
    for i, band in enumerate(sensor.bands)
  ]


def _compare_statistics(sensor, section, config, place, notes) -> None:
  """Notes a normalisation that is not the run's, which is used."""
  if section.normalization.type not in (None, "custom"):
    notes.append(f"{place}.normalization: ignored; the run's is used")
    return
  own = config.inputs[sensor.id]
  for key, numbers, by_band in (
    ("means", section.normalization.means, own.mean),
    ("stds", section.normalization.stds, own.std),
  ):
    used = [by_band.get(band, 0.0) for band in own.bands]
    differs = len(numbers) != len(used) or any(
      abs(x - y) > _LARGEST_DIFFERENCE
      for x, y in zip(numbers, used, strict=False)
    )
    if numbers and differs:
      notes.append(
        f"warning: {place}.normalization.{key}: {numbers} are not those of the"
        f" run, {used}, which are used"
      )
