"""Builds the network of a configuration; tables of encoders and decoders."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flairhub_jax import choice, class_merge, configuration
from flairhub_jax.errors import InputError
from flairhub_jax.models import (
  convnext,
  convolution,
  initialise,
  kernels,
  layers,
  resnet,
  swin,
  unet,
  upernet,
  utae,
)
from flairhub_jax.models import inputs as inputs_lib
from flairhub_jax.models.segmenter import PRECISIONS, Segmenter
from flairhub_jax.models.strategies import FUSIONS


def _swin(width, depths, heads, window):
  return functools.partial(
    swin.Swin, width=width, depths=depths, heads=heads, window=window
  )


def _convnext(width, depths, stored_as_images=False):
  widths = tuple(width * 2**i for i in range(4))
  return functools.partial(
    convnext.ConvNeXt,
    widths=widths,
    depths=depths,
    stored_as_images=stored_as_images,
  )


def _resnet(depths, is_bottleneck):
  return functools.partial(
    resnet.ResNet, depths=depths, is_bottleneck=is_bottleneck
  )


_BASE = (128, (2, 2, 18, 2), (4, 8, 16, 32))
_LARGE = (192, (2, 2, 18, 2), (6, 12, 24, 48))

# Image encoders: constructors with `dtype`, `remat` and, if it has such a
# field, `drop_path_rate`; `num_levels` is an attribute. `swin_nano` is ours,
# for CPUs; other names and sizes are timm's and torchvision's.
ENCODERS: Mapping[str, Callable[..., nn.Module]] = {
  "swin_nano": _swin(32, (1, 1, 2, 1), (2, 4, 8, 16), 7),
  "swin_tiny_patch4_window7_224": _swin(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
  "swin_small_patch4_window7_224": _swin(96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
  "swin_base_patch4_window7_224": _swin(*_BASE, 7),
  "swin_base_patch4_window12_384": _swin(*_BASE, 12),
  "swin_large_patch4_window7_224": _swin(*_LARGE, 7),
  "swin_large_patch4_window12_384": _swin(*_LARGE, 12),
  "convnextv2_atto": _convnext(40, (2, 2, 6, 2), stored_as_images=True),
  "convnextv2_femto": _convnext(48, (2, 2, 6, 2), stored_as_images=True),
  "convnextv2_pico": _convnext(64, (2, 2, 6, 2), stored_as_images=True),
  "convnextv2_nano": _convnext(80, (2, 2, 8, 2), stored_as_images=True),
  "convnextv2_tiny": _convnext(96, (3, 3, 9, 3)),
  "convnextv2_small": _convnext(96, (3, 3, 27, 3)),
  "convnextv2_base": _convnext(128, (3, 3, 27, 3)),
  "convnextv2_large": _convnext(192, (3, 3, 27, 3)),
  "convnextv2_huge": _convnext(352, (3, 3, 27, 3)),
  "resnet18": _resnet((2, 2, 2, 2), is_bottleneck=False),
  "resnet34": _resnet((3, 4, 6, 3), is_bottleneck=False),
  "resnet50": _resnet((3, 4, 6, 3), is_bottleneck=True),
  "resnet101": _resnet((3, 4, 23, 3), is_bottleneck=True),
  "resnet152": _resnet((3, 8, 36, 3), is_bottleneck=True),
}

# Decoders: constructors with `num_classes`, `output_size` and `dtype`.
DECODERS: Mapping[str, Callable[..., nn.Module]] = {
  "upernet": upernet.UPerNet,
  # A quarter of the FLOPs, for CPUs.
  "upernet_nano": functools.partial(
    upernet.UPerNet, pyramid_width=64, width=32
  ),
  "unet": unet.UNet,
}

# Fields of `config.model.utae` that are passed to U-TAE unchanged.
_UTAE_FIELDS = (
  "kernel", "stride", "padding", "padding_mode", "aggregation", "encoder_norm",
  "num_heads", "attention_width", "key_width", "attention_dropout",
  "mlp_dropout",
)  # fmt: skip

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Whether task weights are learned.
TASK_WEIGHTINGS = {"fixed": False, "uncertainty": True}


def build_segmenter(
  config: Any,
  *,
  output_size: tuple[int, int] | None = None,
  count_padding: bool | None = None,
) -> Segmenter:
  """Builds the network of a configuration, without computing anything.

  Args:
    config: a configuration with the fields of `configs/base.py`.
    output_size: rows and columns of the logits; None: `logits_size`.
    count_padding: see `utae.UTAE`; None: as in `config.model.utae`.

  Raises:
    InputError: an unknown name.
  """
  kernels.check_environment()
  inputs = inputs_lib.build_inputs(config)
  tasks = _tasks(config)
  return Segmenter(
    inputs=inputs,
    tasks=tasks,
    strategy=_strategy(
      config, inputs, tasks, output_size or logits_size(config), count_padding
    ),
    modality_dropout=_dropout(
      config.fusion.modality_dropout, [spec.modality for spec in inputs]
    ),
    learns_task_weights=choice.lookup(
      "config.task_weighting", config.task_weighting, TASK_WEIGHTINGS
    ),
    precision=choice.one("config.matmul_precision", config, PRECISIONS),
    deterministic=config.deterministic,
    merged=_merged(config),
  )


def _strategy(config, inputs, tasks, output_size, count_padding):
  """Encoders, fusion and decoders."""
  dtype = choice.lookup("config.dtype", config.dtype, DTYPES)
  listed = config.model.auxiliary
  listed = choice.known("config.model.auxiliary", listed, config.schema.sensors)
  encoder = build_image_encoder(config.model, dtype=dtype)
  decoder = choice.lookup(
    "config.model.decoder", config.model.decoder, DECODERS
  )
  kind = config.fusion.kind
  with_images, series_only = choice.lookup("config.fusion.kind", kind, FUSIONS)
  has_images = not all(spec.is_series for spec in inputs)
  chosen = with_images if has_images else series_only
  return chosen.strategy(
    inputs=inputs,
    tasks=tasks,
    # The list may name inactive modalities, as in sweeps over subsets.
    auxiliary_modalities=tuple(
      spec.modality for spec in inputs if spec.modality in listed
    ),
    output_size=output_size,
    image_encoder=encoder,
    series_encoder=_series_encoder(
      config.model.utae,
      levels=encoder().num_levels if chosen.strategy.fuses_features else None,
      num_classes=sum(number for _, number in tasks),
      count_padding=count_padding,
      remat=config.model.remat,
      dtype=dtype,
    ),
    image_decoder=functools.partial(
      decoder, output_size=output_size, dtype=dtype
    ),
    mixture=chosen.mixture,
    options=tuple((n, config.fusion[kind][n]) for n in chosen.options),
    dtype=dtype,
  )


def _dropout(rates, active):
  """Probability that training drops each active modality."""
  for modality, rate in rates.items():
    if not 0.0 <= rate < 1.0:
      raise InputError(
        f"config.fusion.modality_dropout.{modality}", "0 <= rate < 1", rate
      )
  return tuple((modality, float(rates[modality])) for modality in active)


def build_image_encoder(
  settings: Any, *, dtype: Any = jnp.float32
) -> Callable[..., nn.Module]:
  """Returns the constructor of an image encoder.

  Args:
    settings: `config.model`.
    dtype: of the products.

  Raises:
    InputError: an unknown name, or drop path for an encoder without it.
  """
  encoder = choice.lookup("config.model.encoder", settings.encoder, ENCODERS)
  remat = choice.one("config.model.remat", settings, layers.REMAT)
  options, rate = {"remat": remat}, settings.drop_path_rate
  if hasattr(encoder(), "drop_path_rate") and rate is not None:
    options["drop_path_rate"] = rate
  elif rate:
    raise InputError(
      "config.model.drop_path_rate",
      f"0 or None: {settings.encoder} has no drop path",
      rate,
    )
  return functools.partial(encoder, dtype=dtype, **options)


def input_shapes(config: Any, num_dates: int | None = None) -> dict[str, Any]:
  """Returns the shapes of a batch of one patch, sized as in `config.inputs`.

  Args:
    config: a configuration.
    num_dates: of each time series; None: as in `config.inputs`.

  Returns:
    A batch for `Segmenter` with `jax.ShapeDtypeStruct`s as leaves.
  """
  batch: dict[str, Any] = {"inputs": {}, "dates": {}, "valid": {}}
  shape = jax.ShapeDtypeStruct
  for modality in config.data.modalities:
    row, size = config.schema.sensors[modality], config.inputs[modality].pixels
    leading: tuple[int, ...] = (1,)
    if row.is_series:
      leading = 1, num_dates or config.inputs[modality].num_dates
      batch["dates"][modality] = shape(leading, jnp.int32)
      batch["valid"][modality] = shape(leading, jnp.bool_)
    batch["inputs"][modality] = shape(
      (*leading, size, size, len(row.bands)), row.numpy_dtype
    )
  return batch


def logits_size(config: Any) -> tuple[int, int]:
  """Rows and columns of the logits of a patch, at the GSD of the labels."""
  size = config.inputs[first_modality(config)].pixels
  pixels = label_pixels(config, size)
  return pixels, pixels


def first_modality(config: Any) -> str:
  """Id of the modality on whose grid the features are fused."""
  return inputs_lib.build_inputs(config)[0].modality


def label_pixels(config: Any, pixels: int) -> int:
  """Converts a number of pixels of the first modality to label pixels."""
  length = pixels * config.schema.sensors[first_modality(config)].gsd
  return round(length / config.schema.tasks[config.data.tasks[0]].gsd)


def variables_shape(segmenter: Segmenter, batch: Any) -> dict[str, Any]:
  """Returns shapes and dtypes of a network's variables, without computing them.

  Args:
    segmenter: the network.
    batch: any batch, or its shapes (`input_shapes`).
  """
  abstract = initialise.trace(segmenter, batch)
  return {
    "params": abstract["params"],
    "batch_stats": abstract.get("batch_stats", {}),
  }


def _series_encoder(settings, *, levels, num_classes, count_padding, **options):
  """U-TAE with the reference's rules for widths."""
  encoder_widths = tuple(settings.encoder_widths)
  decoder_widths = tuple(settings.decoder_widths)
  if levels is not None:
    encoder_widths = utae.widths_beside(levels, encoder_widths)
    # The reference derives both from the replaced widths of the encoder.
    decoder_widths = utae.widths_beside(levels, encoder_widths)
  if len(encoder_widths) != len(decoder_widths):
    raise InputError(
      "config.model.utae.decoder_widths",
      f"{len(encoder_widths)} numbers, as encoder_widths has",
      decoder_widths,
    )
  head_widths = tuple(settings.head_widths)
  if head_widths[-1] != num_classes:
    head_widths += (num_classes,)
  if count_padding is None:
    count_padding = settings.count_padding
  where = "config.model.utae"
  choice.one(
    f"{where}.padding_mode", settings, tuple(convolution.PADDING_MODES)
  )
  choice.one(f"{where}.aggregation", settings, utae.AGGREGATIONS)
  choice.one(f"{where}.encoder_norm", settings, utae.ENCODER_NORMS)
  return functools.partial(
    utae.UTAE,
    encoder_widths=encoder_widths,
    decoder_widths=decoder_widths,
    head_widths=head_widths,
    **{name: settings[name] for name in _UTAE_FIELDS},
    count_padding=count_padding,
    **options,
  )


def _merged(config):
  """Merged tasks, each with the index of the merged class of each class."""
  tasks = configuration.label_tasks(config)
  return tuple(
    (name, tuple(class_merge.members(config.schema.tasks[name], task).tolist()))
    for name, task in tasks.items()
    if len(config.tasks[name].merge)
  )


def _tasks(config):
  """Id and number of classes, before any merge, of each task."""
  where = "config.data.tasks"
  if not choice.known(where, config.data.tasks, config.schema.tasks):
    raise InputError(where, "at least one task", "none")
  tasks = {name: config.schema.tasks[name] for name in config.data.tasks}
  if len(sizes := {task.gsd for task in tasks.values()}) > 1:
    found = " and ".join(f"{gsd:g} m" for gsd in sorted(sizes))
    raise InputError(where, "tasks of one ground sampling distance", found)
  return tuple((name, task.num_classes) for name, task in tasks.items())
