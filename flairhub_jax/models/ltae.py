"""L-TAE (Sainte Fare Garnot & Landrieu 2020): attention over time."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from flairhub_jax.array_type import Array
from flairhub_jax.models import initialise, layers, norms

_PERIOD = 1000.0  # days; T of the paper's positional encoding
# The reference's value instead of -inf: for a series without valid dates,
# attention is uniform instead of NaN.
_MASKED = -1000.0


def positional_encoding(
  days: Int[Array, "b t"], width: int
) -> Float[Array, "b t c"]:
  """Sines (even channels) and cosines (odd) of days since the reference."""
  channel = np.arange(width)
  period = np.float32(_PERIOD) ** (2 * (channel // 2) / width)
  angle = days.astype(jnp.float32)[..., None] / period.astype(np.float32)
  return jnp.where(channel % 2 == 0, jnp.sin(angle), jnp.cos(angle))


class TemporalEncoder(nn.Module):
  """L-TAE: attention over time at each pixel, one learned query per head.

  Attributes:
    heads: number of heads.
    width: width of the values, over all heads together.
    key_width: width of a head's keys.
    features: width of the result.
    attention_dropout: probability of dropping an attention weight.
    mlp_dropout: probability of dropping an output of the MLP.
    count_padding: see `utae.UTAE`.
    dtype: of the products.
  """

  heads: int
  width: int
  key_width: int
  features: int
  attention_dropout: float
  mlp_dropout: float
  count_padding: bool
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b t h w c"],
    days: Int[Array, "b t"],
    valid: Bool[Array, "b t"],
    train: bool,
  ) -> tuple[Float[Array, "b h w d"], Float[Array, "b t h w heads"]]:
    """Returns the features and the attention weights."""
    b, t, h, w, _ = x.shape
    x = x.reshape(b, t, h * w, -1)
    date_mask = None
    if not self.count_padding:
      date_mask = valid.astype(jnp.float32)[:, :, None, None]
    x = norms.GroupNorm(
      self.heads, axes=(1,), dtype=self.dtype, name="in_norm"
    )(x, date_mask)
    x = layers.Dense(self.width, dtype=self.dtype, name="in_projection")(x)
    encoding = positional_encoding(days, self.width // self.heads)
    encoding = jnp.tile(encoding, self.heads).astype(self.dtype)
    x = x + encoding[:, :, None]
    scores = self._scores(x)
    scores = jnp.where(valid[:, :, None, None], scores, _MASKED)
    weights = jax.nn.softmax(scores, axis=1)
    weights = nn.Dropout(self.attention_dropout)(
      weights, deterministic=not train
    )
    x = x.reshape(b, t, h * w, self.heads, -1)
    x = (weights.astype(self.dtype)[..., None] * x).sum(axis=1)
    x = x.reshape(b, h * w, self.width)
    x = layers.Dense(self.features, dtype=self.dtype, name="mlp")(x)
    x = norms.BatchNorm(dtype=self.dtype, name="mlp_norm")(x, train)
    x = nn.Dropout(self.mlp_dropout)(nn.relu(x), deterministic=not train)
    x = norms.GroupNorm(self.heads, axes=(), dtype=self.dtype, name="out_norm")(
      x
    )
    return x.reshape(b, h, w, -1), weights.reshape(b, t, h, w, self.heads)

  def _scores(self, x):
    """Products of query and keys, [b t n heads], as one projection of `x`."""
    shape = (self.heads, self.key_width)
    spread = initialise.Draw("normal", math.sqrt(2.0 / self.key_width))
    query = self.param("query", spread, shape)
    kernel = self.param("key_kernel", spread, (self.width, math.prod(shape)))
    bias = self.param(
      "key_bias", initialise.torch_uniform(self.width), (math.prod(shape),)
    )
    query = query / math.sqrt(self.key_width)
    kernel = (kernel.reshape(self.width, *shape) * query).sum(-1)
    bias = (bias.reshape(shape) * query).sum(-1)
    return (x @ kernel.astype(self.dtype)).astype(jnp.float32) + bias
