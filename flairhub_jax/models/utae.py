"""U-TAE (Sainte Fare Garnot & Landrieu 2021), an encoder of image series.

A convolutional encoder runs on every date, temporal attention (L-TAE) reduces
the deepest level over time, and a decoder adds skip connections that are
averaged with the same attention weights.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from flairhub_jax.array_type import Array
from flairhub_jax.models import convolution, initialise, layers, ltae, norms

AGGREGATIONS = ("att_group", "att_mean", "mean")
ENCODER_NORMS = ("group", "batch", "instance")
_CONV_GROUPS = 4


def widths_beside(levels: int, widths: tuple[int, ...]) -> tuple[int, ...]:
  """Widths that replace `widths` next to an image encoder with `levels` levels.

  Evenly spaced from min - 1 to max + 1, rounded to powers of two, as in the
  reference.
  """
  steps = np.linspace(min(widths) - 1, max(widths) + 1, levels).astype(int)
  return tuple(2 ** round(math.log(int(step), 2)) for step in steps)


class _TransposedConv(nn.Module):
  """Transposed 2-D convolution as PyTorch defines it, no output padding."""

  features: int
  kernel: int = 3
  stride: int = 1
  padding: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n p q d"]:
    """Upsamples `x` by the stride."""
    shape = (self.kernel, self.kernel, x.shape[-1], self.features)
    # PyTorch computes fan-in from the second axis of [in out h w].
    default = initialise.torch_uniform(self.kernel**2 * self.features)
    kernel = self.param("kernel", default, shape)
    bias = self.param("bias", default, (self.features,))
    y = convolution.transposed_convolve(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      stride=self.stride,
      padding=self.padding,
    )
    return y + bias.astype(self.dtype)


class _ConvLayers(nn.Module):
  """Convolutions, each with normalisation and ReLU.

  The first convolution of raw values is float32: reflectances have more digits
  than bfloat16.
  """

  features: tuple[int, ...]
  norm: str
  kernel: int = 3
  stride: int = 1
  padding: int = 1
  padding_mode: str = "reflect"
  takes_raw_values: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n h w c"],
    train: bool,
    date_mask: Float[Array, "n 1 1 1"] | None = None,
  ) -> Float[Array, "n p q d"]:
    """Runs on each of `n` images; `date_mask`: see `norms.BatchNorm`."""
    for i, features in enumerate(self.features):
      is_raw = self.takes_raw_values and i == 0
      x = layers.Conv(
        features,
        kernel=self.kernel,
        stride=self.stride,
        padding=self.padding,
        padding_mode=self.padding_mode,
        dtype=jnp.float32 if is_raw else self.dtype,
        name=f"conv_{i}",
      )(x)
      if self.norm == "batch":
        norm = norms.BatchNorm(dtype=self.dtype, name=f"norm_{i}")
        x = norm(x, train, date_mask)
      else:
        groups = _CONV_GROUPS if self.norm == "group" else None
        x = norms.GroupNorm(groups, dtype=self.dtype, name=f"norm_{i}")(x)
      x = nn.relu(x)
    return x


class _DownBlock(nn.Module):
  """One level of the encoder, applied to each date."""

  features: int
  kernel: int
  stride: int
  padding: int
  norm: str
  padding_mode: str
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n h w c"],
    train: bool,
    date_mask: Float[Array, "n 1 1 1"],
  ) -> Float[Array, "n p q d"]:
    """Downsamples, then convolves twice, the second time with a residual."""
    shared = dict(
      norm=self.norm, padding_mode=self.padding_mode, dtype=self.dtype
    )
    x = _ConvLayers(
      (x.shape[-1],),
      kernel=self.kernel,
      stride=self.stride,
      padding=self.padding,
      name="down",
      **shared,
    )(x, train, date_mask)
    wide = (self.features,)
    x = _ConvLayers(wide, name="conv1", **shared)(x, train, date_mask)
    return x + _ConvLayers(wide, name="conv2", **shared)(x, train, date_mask)


class _UpBlock(nn.Module):
  """One level of the decoder."""

  features: int
  kernel: int
  stride: int
  padding: int
  padding_mode: str
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b h w c"],
    skip: Float[Array, "b p q s"],
    train: bool,
  ) -> Float[Array, "b p q d"]:
    """Upsamples `x`, concatenates `skip`, convolves twice."""
    skip = layers.Dense(skip.shape[-1], dtype=self.dtype, name="skip")(skip)
    skip = norms.BatchNorm(dtype=self.dtype, name="skip_norm")(skip, train)
    x = _TransposedConv(
      self.features,
      kernel=self.kernel,
      stride=self.stride,
      padding=self.padding,
      dtype=self.dtype,
      name="up",
    )(x)
    x = norms.BatchNorm(dtype=self.dtype, name="up_norm")(x, train)
    x = jnp.concatenate([nn.relu(x), nn.relu(skip)], axis=-1)
    shared = dict(
      norm="batch", padding_mode=self.padding_mode, dtype=self.dtype
    )
    wide = (self.features,)
    x = _ConvLayers(wide, name="conv1", **shared)(x, train)
    return x + _ConvLayers(wide, name="conv2", **shared)(x, train)


def average_over_time(
  x: Float[Array, "b t h w c"],
  attention: Float[Array, "b t p q heads"],
  valid: Bool[Array, "b t"],
  aggregation: str,
) -> Float[Array, "b h w c"]:
  """Averages a skip connection over time; zeros if no date is valid."""
  b, t, h, w, c = x.shape
  weight = valid.astype(jnp.float32)[:, :, None, None, None]
  if aggregation == "mean":
    number = jnp.maximum(weight.sum(axis=1), 1.0)
    return ((x * weight).sum(axis=1) / number).astype(x.dtype)
  if aggregation == "att_mean":
    attention = attention.mean(axis=-1, keepdims=True)
  p, q, heads = attention.shape[2:]
  if (p, q) != (h, w):
    attention = attention.reshape(b * t, p, q, heads)
    attention = layers.resize(attention, (h, w)).reshape(b, t, h, w, heads)
  attention = (attention * weight).astype(x.dtype)
  x = x.reshape(b, t, h, w, heads, c // heads)
  return (x * attention[..., None]).sum(axis=1).reshape(b, h, w, c)


class UTAE(nn.Module):
  """The U-TAE.

  Attributes:
    encoder_widths: channels of each level of the encoder.
    decoder_widths: channels of each level of the decoder, whose last level is
      the encoder's.
    head_widths: channels of the head's convolutions; the last is the number of
      classes.
    has_head: whether there is a head.
    kernel: kernel size between levels.
    stride: between levels.
    padding: between levels.
    aggregation: one of `AGGREGATIONS`.
    encoder_norm: one of `ENCODER_NORMS`.
    padding_mode: see `layers.Conv`.
    num_heads: of the temporal attention.
    attention_width: width of its values, over all heads together.
    key_width: per head.
    attention_dropout: probability of dropping an attention weight.
    mlp_dropout: probability of dropping an output of its MLP.
    count_padding: whether padded dates count as zeros in the normalisation
      before the attention. In the reference they do, so that a prediction
      depends on the other samples of its batch.
    remat: one of `layers.REMAT`; a level of the encoder is both stage and
      block.
    dtype: of the products.
  """

  encoder_widths: tuple[int, ...]
  decoder_widths: tuple[int, ...]
  head_widths: tuple[int, ...]
  has_head: bool = True
  kernel: int = 3
  stride: int = 1
  padding: int = 1
  aggregation: str = "att_group"
  encoder_norm: str = "group"
  padding_mode: str = "reflect"
  num_heads: int = 16
  attention_width: int = 256
  key_width: int = 4
  attention_dropout: float = 0.1
  mlp_dropout: float = 0.2
  count_padding: bool = False
  remat: str = "none"
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b t h w c"],
    days: Int[Array, "b t"],
    valid: Bool[Array, "b t"],
    train: bool,
  ) -> tuple[Float[Array, "b h w k"] | None, list[Float[Array, "b _ _ _"]]]:
    """Returns logits (None without a head) and features, DEEPEST first."""
    skips = self._encode(x, valid, train)
    x, attention = ltae.TemporalEncoder(
      heads=self.num_heads,
      width=self.attention_width,
      key_width=self.key_width,
      features=self.encoder_widths[-1],
      attention_dropout=self.attention_dropout,
      mlp_dropout=self.mlp_dropout,
      count_padding=self.count_padding,
      dtype=self.dtype,
      name="temporal",
    )(skips.pop(), days, valid, train)
    features = [x]
    for i, width in enumerate(self.decoder_widths[-2::-1]):
      skip = average_over_time(skips.pop(), attention, valid, self.aggregation)
      x = _UpBlock(
        width, name=f"up_{i}", dtype=self.dtype, **self._between_levels()
      )(x, skip, train)
      features.append(x)
    if not self.has_head:
      return None, features
    logits = _ConvLayers(
      self.head_widths,
      norm="batch",
      padding_mode=self.padding_mode,
      dtype=self.dtype,
      name="head",
    )(x, train)
    return logits.astype(jnp.float32), features

  def _between_levels(self):
    """Settings of the convolutions between levels."""
    return dict(
      kernel=self.kernel,
      stride=self.stride,
      padding=self.padding,
      padding_mode=self.padding_mode,
    )

  def _encode(self, x, valid, train):
    """Features of each level, [b t h w c], zero on padded dates."""
    b, t = x.shape[:2]
    is_valid = valid.reshape(b * t, 1, 1, 1)
    date_mask = is_valid.astype(jnp.float32)
    x = jnp.where(is_valid, x.reshape(b * t, *x.shape[2:]), 0.0)
    features = []
    for level in range(len(self.encoder_widths)):
      run = functools.partial(UTAE._level, level=level)
      run = layers.rematerialised(run, self.remat != "none")
      x = run(self, x, train, date_mask)
      # Padded dates are computed with the others and zeroed after each level.
      x = jnp.where(is_valid, x, 0.0)
      features.append(x)
    return [y.reshape(b, t, *y.shape[1:]) for y in features]

  def _level(self, x, train, date_mask, *, level):
    """One level of the encoder."""
    width = self.encoder_widths[level]
    if level:
      return _DownBlock(
        width,
        norm=self.encoder_norm,
        dtype=self.dtype,
        name=f"down_{level - 1}",
        **self._between_levels(),
      )(x, train, date_mask)
    return _ConvLayers(
      (width, width),
      norm=self.encoder_norm,
      padding_mode=self.padding_mode,
      takes_raw_values=True,
      dtype=self.dtype,
      name="in_conv",
    )(x, train, date_mask)
