"""From stored values to what a network sees, on the device.

Raw integers travel as far as here: selecting bands, casting and normalising
fuse with the first layer, and nothing larger crosses to the device.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from flairhub_jax import modalities


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """One modality as the network reads it.

  Attributes:
    modality: published id.
    bands: names of the bands to read, stored or derived ones.
    mean: mean of each band; empty: values go in as they are.
    std: standard deviation of each band, as many as `mean`.
    is_chosen: whether inputs have just `bands`, in that order, instead of all
      published bands in file order.
  """

  modality: str
  bands: tuple[str, ...]
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  is_chosen: bool = False

  @property
  def is_series(self) -> bool:
    """Whether the modality has several dates."""
    return modalities.MODALITIES[self.modality].is_series


def normalise(
  x: Num[Array | np.ndarray, "*b h w s"], source: Source
) -> Float[Array, "*b h w c"]:
  """Selects bands, casts to float32 and normalises.

  Args:
    x: stored values, with the bands that `source` says.
    source: which bands to take, and their statistics.

  Returns:
    Float32, one channel per band of `source`, in its order.
  """
  row = modalities.MODALITIES[source.modality]
  if source.is_chosen:
    x = jnp.asarray(x).astype(jnp.float32)
  else:
    x = _select(jnp.asarray(x), row, source.bands)
  if source.mean:
    x = (x - jnp.asarray(source.mean)) / jnp.asarray(source.std)
  return x


def _select(x, row, bands):
  """The named bands of `x`, as float32."""
  if bands == row.bands:
    return x.astype(jnp.float32)

  def band(name):
    if name in row.derived_bands:
      minuend, subtrahend = row.derived_bands[name]
      return band(minuend) - band(subtrahend)
    return x[..., row.bands.index(name)].astype(jnp.float32)

  return jnp.stack([band(name) for name in bands], axis=-1)
