"""Early fusion: all modalities as bands of one image."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from flairhub_jax.array_type import Array
from flairhub_jax.models import fusion, initialise, layers, norms

_DAYS_OF_YEAR = 365.25
# Upsampling factor without an image: a pixel becomes a patch of Swin.
_SERIES_SCALE = 4


class EarlyFusion(fusion.Fusion):
  """Stacks the bands of all modalities; one encoder, one decoder per task."""

  def setup(self):
    """Builds the stack, its encoder, and a decoder per task."""
    self.stack = Stack(**dict(self.options))
    self.encoder = {"early": self.image_encoder()}
    self.decoder = self.decoders_of_tasks()

  def encode(self, modality, arrays, train):
    """Returns the arrays unchanged: the encoder runs after fusion."""
    return arrays

  def __call__(self, encoded, present, train):
    """Stacks, encodes and decodes; there are no auxiliary outputs."""
    dates, valid_dates = (
      {m: arrays[i] for m, arrays in encoded.items() if len(arrays) > 1}
      for i in (1, 2)
    )
    inputs = {m: arrays[0] for m, arrays in encoded.items()}
    x = self.stack(inputs, dates, valid_dates, present, train)
    features = layers.without_image(self.encoder["early"](x, train))
    return {"logits": self.decode(features, train), "aux": {}}


class Stack(nn.Module):
  """Resamples images and composites of series to the finest grid.

  A learned value per band replaces a missing modality, or a period without
  dates.

  Attributes:
    periods: number of parts of a year, with one composite of a series each.
  """

  periods: int

  @nn.compact
  def __call__(
    self,
    inputs: Mapping[str, Float[Array, "b *_ _ _ _"]],
    dates: Mapping[str, Int[Array, "b t"]],
    valid: Mapping[str, Bool[Array, "b t"]],
    present: fusion.Present,
    train: bool,
  ) -> Float[Array, "b h w c"]:
    """Returns one image.

    Args:
      inputs: modality -> normalised image, or series.
      dates: of each series, days from the reference date.
      valid: of each series, False on padding.
      present: modality -> bool [b], False for samples that lack it.
      train: whether to normalise composites with batch statistics.
    """
    size = _finest(inputs)
    bands = []
    for modality, x in inputs.items():
      has = present.get(modality, jnp.ones(x.shape[0], bool))
      if modality in dates:
        date_mask = valid[modality] & has[:, None]
        x = self._composites(modality, x, dates[modality], date_mask, train)
      else:
        token = self.param(
          f"missing_{modality}", initialise.zeros, (x.shape[-1],)
        )
        x = jnp.where(has[:, None, None, None], x, token)
      bands.append(layers.resize(x, size))
    return jnp.concatenate(bands, axis=-1)

  def _composites(self, modality, x, days, date_mask, train):
    """Means over each period of the year as bands, [b h w periods * c]."""
    b, _, h, w, c = x.shape
    days = days.astype(jnp.float32)
    part = jnp.mod(days, _DAYS_OF_YEAR) * (self.periods / _DAYS_OF_YEAR)
    member = jax.nn.one_hot(part.astype(jnp.int32), self.periods)
    member = jnp.where(date_mask[..., None], member, 0.0)
    number = member.sum(1)[:, :, None, None, None]
    x = jnp.where(date_mask[:, :, None, None, None], x, 0.0)
    total = jnp.einsum("btp,bthwc->bphwc", member, x)
    has_dates = (number > 0).astype(jnp.float32)
    # Series are not normalised by `normalise`.
    norm = norms.BatchNorm(name=f"norm_{modality}")
    x = norm(total / jnp.maximum(number, 1.0), train, has_dates)
    token = self.param(f"missing_{modality}", initialise.zeros, (c,))
    x = jnp.where(has_dates > 0, x, token)
    return x.transpose(0, 2, 3, 1, 4).reshape(b, h, w, self.periods * c)


def _finest(inputs):
  """Rows and columns of the largest image."""
  images = [x.shape[1:3] for x in inputs.values() if x.ndim == 4]
  if images:
    return max(images, key=lambda size: size[0] * size[1])
  sizes = [x.shape[2:4] for x in inputs.values()]
  rows, columns = max(sizes, key=lambda size: size[0] * size[1])
  return _SERIES_SCALE * rows, _SERIES_SCALE * columns
