"""All modalities as bands of one image, for one encoder."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flairhub_jax.models import fusion, initialise, layers, norms

_PERIODS = 12
_DAYS_OF_YEAR = 365.25
# Without an image, a pixel of a series becomes this many, a patch of Swin's.
_SERIES_SCALE = 4


class Stack(nn.Module):
  """Resamples images and composites of series to the finest grid.

  Where a sample lacks a modality, or a period a date, a learned value per band
  stands.
  """

  @nn.compact
  def __call__(
    self,
    inputs: Mapping[str, Float[Array, "b *t h w _"]],
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
      present: modality -> which samples have it.
      train: whether statistics of the composites are this batch's.
    """
    size = _finest(inputs)
    bands = []
    for modality, x in inputs.items():
      has = present.get(modality, jnp.ones(x.shape[0], bool))
      if modality in dates:
        kept = valid[modality] & has[:, None]
        x = self._composites(modality, x, dates[modality], kept, train)
      else:
        token = self.param(
          f"missing_{modality}", initialise.zeros, (x.shape[-1],)
        )
        x = jnp.where(has[:, None, None, None], x, token)
      bands.append(layers.resize(x, size))
    return jnp.concatenate(bands, axis=-1)

  def _composites(self, modality, x, days, valid, train):
    """Means of twelve parts of the year as bands, [b h w 12 * c]."""
    b, _, h, w, c = x.shape
    part = jnp.mod(days, _DAYS_OF_YEAR) * (_PERIODS / _DAYS_OF_YEAR)
    chosen = jax.nn.one_hot(part.astype(jnp.int32), _PERIODS) * valid[..., None]
    number = chosen.sum(1)[:, :, None, None, None]
    x = jnp.where(valid[:, :, None, None, None], x, 0.0)
    total = jnp.einsum("btp,bthwc->bphwc", chosen, x)
    is_seen = (number > 0).astype(jnp.float32)
    # Stored numbers have scales of their own.
    norm = norms.BatchNorm(name=f"norm_{modality}")
    x = norm(total / jnp.maximum(number, 1.0), train, is_seen)
    token = self.param(f"missing_{modality}", initialise.zeros, (c,))
    x = jnp.where(is_seen > 0, x, token)
    return x.transpose(0, 2, 3, 1, 4).reshape(b, h, w, _PERIODS * c)


def _finest(inputs):
  """Rows and columns of the largest image."""
  images = [x.shape[1:3] for x in inputs.values() if x.ndim == 4]
  if images:
    return max(images, key=lambda size: size[0] * size[1])
  sizes = [x.shape[2:4] for x in inputs.values()]
  rows, columns = max(sizes, key=lambda size: size[0] * size[1])
  return _SERIES_SCALE * rows, _SERIES_SCALE * columns
