"""Band selection, cast and normalisation of stored values, on the device.

Stored integers are transferred to the device; XLA fuses these operations with
the first layer.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from flairhub_jax.array_type import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSpec:
  """One modality of the input, as the network reads it.

  Attributes:
    modality: id of the sensor.
    is_series: whether it is a time series.
    stored_bands: names of the stored bands, in file order.
    derived_bands: name, minuend and subtrahend of each derived band.
    bands: names of the bands to use, stored or derived.
    mean: of each band; empty: values are not normalised.
    std: standard deviation of each band, as many as `mean`.
    is_chosen: whether inputs have `bands` in this order, instead of all stored
      bands in file order.
  """

  modality: str
  stored_bands: tuple[str, ...]
  derived_bands: tuple[tuple[str, str, str], ...] = ()
  is_series: bool = False
  bands: tuple[str, ...]
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  is_chosen: bool = False


def normalise(
  x: Num[Array | np.ndarray, "*b h w s"], spec: InputSpec
) -> Float[Array, "*b h w c"]:
  """Selects bands, casts to float32 and normalises.

  Args:
    x: stored values, with all stored bands or with the bands of `spec`.
    spec: bands and their statistics.

  Returns:
    Float32, one channel per band of `spec`, in order.
  """
  if spec.is_chosen:
    x = jnp.asarray(x).astype(jnp.float32)
  else:
    x = _select(jnp.asarray(x), spec)
  if spec.mean:
    mean, std = jnp.float32(spec.mean), jnp.float32(spec.std)
    x = (x - mean) / std
  return x


def _select(x, spec):
  """Selects or derives the bands of `spec`, as float32."""
  if spec.bands == spec.stored_bands:
    return x.astype(jnp.float32)
  pairs = {name: pair for name, *pair in spec.derived_bands}

  def band(name):
    if name in pairs:
      minuend, subtrahend = pairs[name]
      return band(minuend) - band(subtrahend)
    return x[..., spec.stored_bands.index(name)].astype(jnp.float32)

  return jnp.stack([band(name) for name in spec.bands], axis=-1)
