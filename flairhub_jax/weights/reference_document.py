"""The reference's training YAML: one pydantic model per section.

Types are checked strictly: "1" is no number and 1 is not True. Null counts as
absent. A path in the annotation of a field is the equivalent field of our
configuration. Other names of a section are in its `model_extra`.
"""

import re
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import BeforeValidator, Field

from flairhub_jax.errors import InputError, InputErrors

# The parts of pydantic's messages around the expected value.
_BOILERPLATE = re.compile("(Input|List) should (be|have) | after validation.*")


def _parse_float(value: Any) -> Any:
  """Parses 5e-5, which has no decimal point and is text in YAML 1.1."""
  try:
    return float(value) if isinstance(value, str) else value
  except ValueError:
    return value


_Float = Annotated[float, BeforeValidator(_parse_float)]
_Model = TypeVar("_Model", bound=pydantic.BaseModel)
_Int = Annotated[int, Field(ge=0, lt=2**63)]
_Positive = Annotated[int, Field(ge=1, lt=2**63)]
_Width = Annotated[int, Field(ge=1, le=4096)]
_Widths = Annotated[list[_Width], Field(min_length=1, max_length=8)]
_Betas = Annotated[list[float], Field(min_length=2, max_length=2)]
_Scheduler = Literal["one_cycle_lr", "reduce_on_plateau", "cycle_then_plateau"]
_Optimizer = Literal["adamw", "adam", "sgd"]
_Period = Literal[False, "monthly", "semi-monthly"]


class _Section(pydantic.BaseModel):
  model_config = pydantic.ConfigDict(
    strict=True, extra="allow", allow_inf_nan=False
  )


class Preprocessing(_Section):
  """`modalities.pre_processings`."""

  filter_sentinel2: Annotated[bool | None, "data.cloud_filter.enabled"] = None
  filter_sentinel2_max_cloud: Annotated[
    _Float | None, "data.cloud_filter.max_cloud"
  ] = None
  filter_sentinel2_max_snow: Annotated[
    _Float | None, "data.cloud_filter.max_snow"
  ] = None
  filter_sentinel2_max_frac_cover: Annotated[
    _Float | None, "data.cloud_filter.max_cover"
  ] = None
  temporal_average_sentinel2: _Period = False
  temporal_average_sentinel1: _Period = False
  calc_elevation: bool = True
  calc_elevation_stack_dsm: bool = True
  use_augmentation: bool | None = None


class Normalization(_Section):
  """`modalities.normalization`; `<modality>_means` and `_stds` are extra."""

  norm_type: Literal["custom", "scaling", "without"] | None = None
  __pydantic_extra__: dict[str, list[float]] = Field(init=False)


class Modalities(_Section):
  """`modalities`."""

  inputs: dict[str, bool] = {}
  inputs_channels: dict[str, list[int]] = {}
  aux_loss: dict[str, bool] = {}
  aux_loss_weight: _Float | None = None
  modality_dropout: dict[str, _Float] = {}
  pre_processings: Preprocessing = Preprocessing()
  normalization: Normalization = Normalization()


class ImageNetwork(_Section):
  """`models.monotemp_model`."""

  arch: str = ""


class SeriesNetwork(_Section):
  """`models.multitemp_model`, the U-TAE."""

  ref_date: Annotated[str | None, "data.reference_date"] = None
  encoder_widths: Annotated[_Widths | None, "model.utae.encoder_widths"] = None
  decoder_widths: Annotated[_Widths | None, "model.utae.decoder_widths"] = None
  out_conv: Annotated[_Widths | None, "model.utae.head_widths"] = None
  str_conv_k: Annotated[_Width | None, "model.utae.kernel"] = None
  str_conv_s: Annotated[_Width | None, "model.utae.stride"] = None
  str_conv_p: Annotated[_Int | None, "model.utae.padding"] = None
  agg_mode: Annotated[str | None, "model.utae.aggregation"] = None
  encoder_norm: Annotated[str | None, "model.utae.encoder_norm"] = None
  n_head: Annotated[_Width | None, "model.utae.num_heads"] = None
  d_model: Annotated[_Width | None, "model.utae.attention_width"] = None
  d_k: Annotated[_Width | None, "model.utae.key_width"] = None
  pad_value: Annotated[_Float, Field(ge=0, le=0)] = 0
  padding_mode: Annotated[str | None, "model.utae.padding_mode"] = None


class Models(_Section):
  """`models`."""

  monotemp_model: ImageNetwork = ImageNetwork()
  multitemp_model: SeriesNetwork = SeriesNetwork()


class ClassWeights(_Section):
  """`labels_configs.<task>.value_weights`, by class index."""

  default: _Float | None = None
  default_exceptions: dict[str, _Float] = {}
  per_modality_exceptions: dict[str, dict] = {}


class Labels(_Section):
  """`labels_configs.<task>`."""

  task_weight: _Float | None = None
  label_channel_nomenclature: _Int | None = None
  value_name: dict[str, str] = {}
  value_weights: ClassWeights = ClassWeights()


class Hyperparameters(_Section):
  """`hyperparams`."""

  num_epochs: Annotated[_Positive | None, "train.num_epochs"] = None
  batch_size: Annotated[_Positive | None, "data.batch_size"] = None
  seed: Annotated[_Int | None, "seed"] = None
  learning_rate: Annotated[_Float | None, "optim.learning_rate"] = None
  optimizer: Annotated[_Optimizer | None, "optim.name"] = None
  optim_weight_decay: Annotated[_Float | None, "optim.weight_decay"] = None
  optim_betas: _Betas | None = None
  scheduler: _Scheduler | None = None
  warmup_fraction: Annotated[_Float | None, "optim.warmup_fraction"] = None
  plateau_patience: Annotated[_Int | None, "optim.plateau.patience"] = None


class Document(_Section):
  """The training YAML, its files joined by their top-level keys."""

  modalities: Modalities = Modalities()
  models: Models = Models()
  labels: list[str] = []
  labels_configs: dict[str, Labels] = {}
  hyperparams: Hyperparameters = Hyperparameters()

  @pydantic.model_validator(mode="before")
  @classmethod
  def _keep_active_tasks(cls, document: dict[str, Any]) -> dict[str, Any]:
    """Drops the sections of inactive tasks, unchecked."""
    labels, configs = document.get("labels"), document.get("labels_configs")
    if isinstance(labels, list) and isinstance(configs, dict):
      configs = {task: configs[task] for task in configs if task in labels}
      document = {**document, "labels_configs": configs}
    return document


def same_fields(section: type[pydantic.BaseModel]) -> dict[str, str]:
  """Returns the fields of a section -> equivalent fields of ours."""
  return {
    name: path
    for name, field in section.model_fields.items()
    for path in field.metadata
    if isinstance(path, str)
  }


def parse(document: Mapping[str, Any], *, where: object) -> Document:
  """Checks the type of every value.

  Args:
    document: from `reference_yaml.read_documents`.
    where: name of the files in error messages.

  Raises:
    InputErrors: values of other types, one line each.
  """
  return validate(Document, document, where=where)


def validate(
  model: type[_Model], document: Mapping[str, Any], *, where: object
) -> _Model:
  """Checks the types of a document of the reference by a model of pydantic.

  Args:
    model: its sections.
    document: null counts as absent.
    where: what error messages call the file.

  Raises:
    InputErrors: values of other types, a line each.
  """
  try:
    return model.model_validate(_without_null(document))
  except pydantic.ValidationError as error:
    faults = [
      InputError(
        f"{where}: {'.'.join(map(str, fault['loc']))}",
        _BOILERPLATE.sub("", fault["msg"]),
        reprlib.repr(fault["input"]),
      )
      for fault in error.errors(include_url=False)
    ]
    raise InputErrors(list(map(str, faults))) from error


def _without_null(value: Any) -> Any:
  """Converts keys to strings and removes null values, recursively."""
  if isinstance(value, list):
    return [_without_null(each) for each in value]
  if not isinstance(value, Mapping):
    return value
  return {
    str(name): _without_null(each)
    for name, each in value.items()
    if each is not None
  }
