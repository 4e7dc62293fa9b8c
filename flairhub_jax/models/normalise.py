"""From stored values to the input of a network, on the device.

Stored integers are transferred to the device; selecting bands, casting and
normalising fuse with the first layer.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from flairhub_jax import modalities
from flairhub_jax.array_type import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSpec:
  """One modality of the input, as the network reads it.

  Attributes:
    modality: published id.
    bands: names of the bands to read, stored or derived ones.
    mean: mean of each band; empty: values are not normalised.
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
  x: Num[Array | np.ndarray, "*b h w s"], spec: InputSpec
) -> Float[Array, "*b h w c"]:
  """Selects bands, casts to float32 and normalises.

  Args:
    x: stored values, with all published bands, or those of `spec`.
    spec: which bands to take, and their statistics.

  Returns:
    Float32, one channel per band of `spec`, in its order.
  """
  row = modalities.MODALITIES[spec.modality]
  if spec.is_chosen:
    x = jnp.asarray(x).astype(jnp.float32)
  else:
    x = _select(jnp.asarray(x), row, spec.bands)
  if spec.mean:
    mean, std = jnp.float32(spec.mean), jnp.float32(spec.std)
    x = (x - mean) / std
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
