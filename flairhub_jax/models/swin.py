"""Swin transformer (Liu et al. 2021) as in timm, with four levels.

Images may have any size: features are padded to whole windows, and windows
shrink to smaller features.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from flairhub_jax.array_type import Array
from flairhub_jax.errors import InputError
from flairhub_jax.models import (
  attention,
  convolution,
  initialise,
  layers,
  norms,
)

_PATCH = 4
# timm's value instead of -inf, as parity in padded windows depends on it.
_MASKED = -100.0


def relative_position_index(window: tuple[int, int]) -> Int[np.ndarray, "n n"]:
  """Row of the bias table for each pair of tokens of a window."""
  rows, columns = window
  grid = np.stack(np.meshgrid(*map(np.arange, window), indexing="ij"))
  tokens = grid.reshape(2, -1)
  delta = tokens[:, :, None] - tokens[:, None, :]
  return (delta[0] + rows - 1) * (2 * columns - 1) + delta[1] + columns - 1


def shift_mask(
  size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> Float[np.ndarray, "windows n n"]:
  """Returns the mask to add to the scores of shifted windows.

  It masks pairs of tokens that only the cyclic shift makes neighbours.
  """
  regions = np.zeros(size, np.int32)
  label = 0
  for rows in _bands(window[0], shift[0]):
    for columns in _bands(window[1], shift[1]):
      regions[rows, columns] = label
      label += 1
  parts = regions.reshape(
    size[0] // window[0], window[0], size[1] // window[1], window[1]
  )
  parts = parts.transpose(0, 2, 1, 3).reshape(-1, window[0] * window[1])
  differs = parts[:, :, None] != parts[:, None, :]
  return np.where(differs, _MASKED, 0.0).astype(np.float32)


def _bands(window, shift):
  """The three parts of an axis that a shift separates."""
  # Without a shift the last part is the whole axis.
  return (
    slice(0, -window),
    slice(-window, -shift),
    slice(-shift, None),
  )


class WindowAttention(nn.Module):
  """Self-attention within windows, with a learned bias per relative position.

  Attributes:
    heads: number of heads.
    window: rows and columns of a window.
    dtype: of the products.
  """

  heads: int
  window: tuple[int, int]
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "bw n c"],
    mask: Float[np.ndarray, "windows n n"] | None,
  ) -> Float[Array, "bw n c"]:
    """Attends within each of `bw` windows; those of an image are adjacent."""
    width = x.shape[-1]
    qkv = _dense(3 * width, "qkv", self.dtype)(x)
    x = attention.attend(qkv, self._bias(), mask)
    return _dense(width, "projection", self.dtype)(x)

  def _bias(self):
    """The learned bias, [heads n n].

    In training on crops the table may be of the larger windows of a full patch;
    its central part has the relative positions of these windows.
    """
    rows, columns = self.window
    shape = ((2 * rows - 1) * (2 * columns - 1), self.heads)
    stored = self.get_variable("params", "bias_table")
    if stored is not None and stored.shape[0] > shape[0]:
      table = central_part(stored, self.window)
    else:
      table = self.param("bias_table", initialise.small_normal, shape)
    index = relative_position_index(self.window)
    bias = table.at[index.reshape(-1)].get(mode="promise_in_bounds")
    return bias.reshape(*index.shape, self.heads).transpose(2, 0, 1)


class Block(nn.Module):
  """Window attention and a two-layer MLP, each with a residual connection.

  Attributes:
    heads: number of heads.
    window: size of a window before it shrinks to the features.
    shifted: whether windows are shifted by half their size.
    drop_path_rate: probability of dropping a branch.
    dtype: of the products.
  """

  heads: int
  window: int
  shifted: bool
  drop_path_rate: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], train: bool
  ) -> Float[Array, "b h w c"]:
    """Returns features of the same shape."""
    width = x.shape[-1]
    y = norms.LayerNorm(dtype=self.dtype, name="norm1")(x)
    x = x + layers.DropPath(self.drop_path_rate)(self._attend(y), train)
    y = norms.LayerNorm(dtype=self.dtype, name="norm2")(x)
    y = layers.gelu(_dense(4 * width, "expand", self.dtype)(y))
    y = _dense(width, "contract", self.dtype)(y)
    return x + layers.DropPath(self.drop_path_rate)(y, train)

  def _attend(self, x):
    """Shifts and pads, attends within windows, and reverses both."""
    b, h, w, c = x.shape
    window = (min(self.window, h), min(self.window, w))
    half = self.window // 2 if self.shifted else 0
    shift = (half if h > window[0] else 0, half if w > window[1] else 0)
    rows, columns = -(-h // window[0]), -(-w // window[1])
    padded = (rows * window[0], columns * window[1])
    if any(shift):
      x = jnp.roll(x, (-shift[0], -shift[1]), axis=(1, 2))
    if padded != (h, w):
      x = jnp.pad(x, ((0, 0), (0, padded[0] - h), (0, padded[1] - w), (0, 0)))
    x = x.reshape(b, rows, window[0], columns, window[1], c)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, window[0] * window[1], c)
    mask = shift_mask(padded, window, shift) if any(shift) else None
    x = WindowAttention(self.heads, window, dtype=self.dtype, name="attention")(
      x, mask
    )
    x = x.reshape(b, rows, columns, window[0], window[1], c)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, *padded, c)[:, :h, :w]
    return jnp.roll(x, shift, axis=(1, 2)) if any(shift) else x


class PatchMerging(nn.Module):
  """Halves rows and columns and doubles the width.

  Attributes:
    dtype: of the product.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b p q d"]:
    """Pads to even sizes, then merges 2x2 pixels."""
    x = convolution.pad_to_multiple(x, 2)
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 4, 2, 5)
    x = x.reshape(b, h // 2, w // 2, 4 * c)
    x = norms.LayerNorm(dtype=self.dtype, name="norm")(x)
    return _dense(2 * c, "reduction", self.dtype, use_bias=False)(x)


class PatchEmbedding(nn.Module):
  """Projects 4x4 pixels to one token.

  Attributes:
    width: width of a token.
    dtype: of the product.
  """

  width: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b p q d"]:
    """Pads to whole patches, then projects and normalises."""
    x = convolution.cut_patches(x, _PATCH)
    x = layers.Dense(self.width, dtype=self.dtype, name="projection")(x)
    return norms.LayerNorm(dtype=self.dtype, name="norm")(x)


class Swin(nn.Module):
  """The encoder: features at 1/4, 1/8, 1/16 and 1/32 of the image.

  Attributes:
    width: of the first stage; it doubles from stage to stage.
    depths: number of blocks of each stage.
    heads: number of heads of each stage.
    window: size of an attention window.
    drop_path_rate: of the last block; increases linearly from 0.
    remat: one of `layers.REMAT`.
    dtype: of the products.
  """

  width: int
  depths: tuple[int, ...]
  heads: tuple[int, ...]
  window: int
  drop_path_rate: float = 0.1
  remat: str = "none"
  dtype: Any = jnp.float32

  num_levels = 4

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], train: bool
  ) -> list[Float[Array, "b _ _ _"]]:
    """Returns the output of each stage, shallowest first."""
    rates = layers.drop_path_rates(self.drop_path_rate, self.depths)
    x = PatchEmbedding(self.width, dtype=self.dtype, name="patch_embedding")(x)
    features = []
    for stage, own_rates in enumerate(rates):
      run = functools.partial(Swin._stage, stage=stage, rates=own_rates)
      x = layers.rematerialised(run, self.remat == "stage")(self, x, train)
      features.append(x)
    return features

  def _stage(self, x, train, *, stage, rates):
    """Downsamples, except in the first stage, and runs the blocks."""
    if stage:
      x = PatchMerging(dtype=self.dtype, name=f"merge_{stage}")(x)
    for i, rate in enumerate(rates):
      block = Block(
        heads=self.heads[stage],
        window=self.window,
        shifted=i % 2 == 1,
        drop_path_rate=rate,
        dtype=self.dtype,
        name=f"stage_{stage}_block_{i}",
      )
      x = layers.run_block(block, x, train, self.remat)
    return x


def _dense(features, name, dtype, use_bias=True):
  """A linear layer with the transformer's initialisation."""
  return layers.Dense(
    features,
    use_bias=use_bias,
    dtype=dtype,
    kernel_init=initialise.small_normal,
    bias_init=initialise.zeros,
    name=name,
  )


def fit_bias_tables(variables: Any, shapes: Any) -> Any:
  """Resizes position bias tables to another image size.

  Windows shrink to smaller features, so the tables depend on the image size.

  Args:
    variables: of a network.
    shapes: of its variables at the other image size.

  Returns:
    `variables`, with tables of those shapes if they can be resized.
  """

  def fit(path, leaf, shape):
    if path[-1].key != "bias_table" or leaf.shape == shape.shape:
      return leaf
    return resize_bias_table(np.asarray(leaf), shape.shape[0])

  return jax.tree_util.tree_map_with_path(fit, variables, shapes)


def central_part(
  table: Float[Array, "n heads"], window: tuple[int, int]
) -> Float[Array, "m heads"]:
  """Returns the rows of a square window's table for a smaller window.

  Raises:
    InputError: the window of the table is not square.
  """
  size = math.isqrt(table.shape[0])
  if size * size != table.shape[0]:
    raise InputError(
      "config.data.augmentation.crop",
      "patches whose attention windows are square",
      f"a table of {table.shape[0]} relative positions",
    )
  square = table.reshape(size, size, -1)
  rows, columns = (2 * length - 1 for length in window)
  top, left = (size - rows) // 2, (size - columns) // 2
  part = square[top : top + rows, left : left + columns]
  return part.reshape(rows * columns, -1)


def resize_bias_table(
  table: Float[np.ndarray, "..."], rows: int
) -> Float[np.ndarray, "..."]:
  """Resizes a square position bias table with PyTorch's bicubic interpolation.

  A table is returned unchanged if it, or the result, is not square.
  """
  if table.ndim != 2 or not len(table) or len(table) == rows:
    return table
  old, new = round(len(table) ** 0.5), round(rows**0.5)
  if old * old != len(table) or new * new != rows:
    return table
  matrix = _bicubic_matrix(new, old)
  square = table.reshape(old, old, -1).astype(np.float64)
  square = np.einsum("ph,qw,hwc->pqc", matrix, matrix, square)
  return square.reshape(rows, -1).astype(table.dtype)


def _bicubic_matrix(out, size, a=-0.75):
  """Weights [out size] of PyTorch's bicubic resize without aligned corners."""
  position = (np.arange(out) + 0.5) * (size / out) - 0.5
  first = np.floor(position).astype(int)
  matrix = np.zeros((out, size))
  for tap in range(-1, 3):
    x = np.abs(position - (first + tap))
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    index = np.clip(first + tap, 0, size - 1)
    np.add.at(matrix, (np.arange(out), index), np.where(x <= 1, near, far))
  return matrix
