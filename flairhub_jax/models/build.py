"""From a configuration to a network: the only place that knows all names."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from flairhub_jax import labels, modalities
from flairhub_jax.errors import InputError
from flairhub_jax.models import convolution, fusion, swin, upernet, utae
from flairhub_jax.models.normalise import Source
from flairhub_jax.models.segmenter import Segmenter


def _swin(width, depths, heads, window):
  return functools.partial(
    swin.Swin, width=width, depths=depths, heads=heads, window=window
  )


_SWIN_TINY = _swin(96, (2, 2, 6, 2), (3, 6, 12, 24), 7)
_SWIN_SMALL = _swin(96, (2, 2, 18, 2), (3, 6, 12, 24), 7)
_BASE = (128, (2, 2, 18, 2), (4, 8, 16, 32))
_LARGE = (192, (2, 2, 18, 2), (6, 12, 24, 48))

# An encoder of images: takes `drop_path_rate` and `dtype`, has `widths`.
ENCODERS: Mapping[str, Callable[..., nn.Module]] = {
  "swin_nano": _swin(32, (1, 1, 2, 1), (2, 4, 8, 16), 7),
  "swin_tiny_patch4_window7_224": _SWIN_TINY,
  "swin_small_patch4_window7_224": _SWIN_SMALL,
  "swin_base_patch4_window7_224": _swin(*_BASE, 7),
  "swin_base_patch4_window12_384": _swin(*_BASE, 12),
  "swin_large_patch4_window7_224": _swin(*_LARGE, 7),
  "swin_large_patch4_window12_384": _swin(*_LARGE, 12),
}

# Takes `num_classes`, `output_size` and `dtype`.
DECODERS: Mapping[str, Callable[..., nn.Module]] = {
  "upernet": upernet.UPerNet,
  # A quarter of the work, for CPUs.
  "upernet_nano": functools.partial(
    upernet.UPerNet, pyramid_width=64, width=32
  ),
}

# Takes `widths` and `dtype`.
FUSIONS: Mapping[str, Callable[..., nn.Module]] = {
  "mid_concat": fusion.MidConcat,
}


def build_segmenter(
  config: Any,
  *,
  output_size: tuple[int, int],
  dtype: Any = jnp.float32,
  count_padding: bool = False,
) -> Segmenter:
  """Builds the network that `config` describes.

  Args:
    config: a configuration with the fields of `configs/base.py`.
    output_size: rows and columns of the logits.
    dtype: type of the products.
    count_padding: see `utae.UTAE`; True reproduces the reference on batches
      of series of different lengths.

  Returns:
    The network; nothing is computed yet.

  Raises:
    InputError: a name that does not exist.
  """
  sources = _sources(config)
  tasks = _tasks(config.data.tasks)
  auxiliary = _known(
    "config.model.auxiliary", config.model.auxiliary, modalities.MODALITIES
  )
  encoder = _lookup("config.model.encoder", config.model.encoder, ENCODERS)
  decoder = _lookup("config.model.decoder", config.model.decoder, DECODERS)
  fusion_module = _lookup("config.fusion.kind", config.fusion.kind, FUSIONS)
  encoder = functools.partial(
    encoder, drop_path_rate=config.model.drop_path_rate, dtype=dtype
  )
  widths = encoder().widths
  has_image = not all(source.is_series for source in sources)
  series_encoder = _series_encoder(
    config.model.utae,
    levels=len(widths) if has_image else None,
    num_classes=sum(number for _, number in tasks),
  )
  active = [source.modality for source in sources]
  return Segmenter(
    sources=sources,
    tasks=tasks,
    # One list serves a study of many subsets: only what is read counts.
    auxiliary=tuple(m for m in active if m in auxiliary),
    output_size=tuple(output_size),
    image_encoder=encoder,
    series_encoder=functools.partial(
      series_encoder, count_padding=count_padding, dtype=dtype
    ),
    fusion=functools.partial(fusion_module, widths=widths, dtype=dtype),
    decoder=functools.partial(
      decoder, output_size=tuple(output_size), dtype=dtype
    ),
    dtype=dtype,
  )


def _series_encoder(settings, *, levels, num_classes):
  """U-TAE with the reference's rules for widths."""
  encoder_widths = tuple(settings.encoder_widths)
  decoder_widths = tuple(settings.decoder_widths)
  if levels is not None:
    encoder_widths = utae.widths_beside(levels, encoder_widths)
    # The reference derives both from the encoder's, already replaced.
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
  where = "config.model.utae"
  _lookup(
    f"{where}.padding_mode", settings.padding_mode, convolution.PADDING_MODES
  )
  _known(f"{where}.aggregation", [settings.aggregation], utae.AGGREGATIONS)
  _known(f"{where}.encoder_norm", [settings.encoder_norm], utae.ENCODER_NORMS)
  return functools.partial(
    utae.UTAE,
    encoder_widths=encoder_widths,
    decoder_widths=decoder_widths,
    head_widths=head_widths,
    kernel=settings.kernel,
    stride=settings.stride,
    padding=settings.padding,
    aggregation=settings.aggregation,
    encoder_norm=settings.encoder_norm,
    padding_mode=settings.padding_mode,
    num_heads=settings.num_heads,
    attention_width=settings.attention_width,
    key_width=settings.key_width,
    attention_dropout=settings.attention_dropout,
    mlp_dropout=settings.mlp_dropout,
  )


def _sources(config):
  """The modalities in the order of the table, with bands and statistics."""
  table = modalities.MODALITIES
  asked = _known("config.data.modalities", config.data.modalities, table)
  if not asked:
    raise InputError("config.data.modalities", "at least one modality", "none")
  sources = []
  for modality in table:
    if modality not in asked:
      continue
    where = f"config.inputs.{modality}"
    given, row = config.inputs[modality], table[modality]
    known = (*row.bands, *row.derived_bands)
    bands = _known(f"{where}.bands", given.bands, known)
    if not bands:
      raise InputError(f"{where}.bands", "at least one band", "none")
    mean = _statistics(f"{where}.mean", given.mean, bands)
    std = _statistics(f"{where}.std", given.std, bands)
    if bool(mean) != bool(std):
      raise InputError(where, "both mean and std, or neither", "one of them")
    sources.append(Source(modality=modality, bands=bands, mean=mean, std=std))
  return tuple(sources)


def _statistics(where, by_band, bands):
  """One number per band, or nothing where `by_band` is empty."""
  if not by_band:
    return ()
  for band in bands:
    if band not in by_band:
      raise InputError(where, f"a number for band {band}", sorted(by_band))
  return tuple(float(by_band[band]) for band in bands)


def _tasks(asked):
  """Id and number of classes of each task, in the order asked for."""
  asked = _known("config.data.tasks", asked, labels.TASKS)
  if not asked:
    raise InputError("config.data.tasks", "at least one task", "none")
  return tuple((task, labels.TASKS[task].num_classes) for task in asked)


def _known(where, names, known):
  """`names` as a tuple, all of them in `known` and none twice."""
  names = tuple(names)
  for i, name in enumerate(names):
    if name not in known:
      raise InputError(where, f"any of {', '.join(known)}", repr(name))
    if name in names[:i]:
      raise InputError(where, "each name once", f"{name!r} twice")
  return names


def _lookup(where, name, table):
  """What `table` has under `name`."""
  if name not in table:
    raise InputError(where, f"one of {', '.join(table)}", repr(name))
  return table[name]
