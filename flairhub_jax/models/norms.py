"""Normalisation layers with PyTorch's conventions, in float32."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import initialise


class LayerNorm(nn.Module):
  """Normalises the last axis, in float32; `epsilon` as in timm's Swin.

  Attributes:
    epsilon: added to the variance.
    dtype: of the result.
  """

  epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """Normalises `x` to zero mean and unit variance, then scales and shifts."""
    scale = self.param("scale", initialise.ones, (x.shape[-1],))
    bias = self.param("bias", initialise.zeros, (x.shape[-1],))
    return _normalise_layer(x, scale, bias, self.epsilon, self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalise_layer(x, scale, bias, epsilon, dtype):
  """Computes `LayerNorm`; its main residual is `x` in its own dtype."""
  return _normalise_layer_forward(x, scale, bias, epsilon, dtype)[0]


def _normalise_layer_forward(x, scale, bias, epsilon, dtype):
  wide = x.astype(jnp.float32)
  centre = wide.mean(axis=-1, keepdims=True)
  variance = jnp.square(wide - centre).mean(axis=-1, keepdims=True)
  rate = jax.lax.rsqrt(variance + epsilon)
  y = (wide - centre) * rate * scale + bias
  return y.astype(dtype), (x, scale, centre, rate)


def _normalise_layer_backward(epsilon, dtype, residuals, gradient):
  x, scale, centre, rate = residuals
  normal = (x.astype(jnp.float32) - centre) * rate
  gradient = gradient.astype(jnp.float32)
  rows = tuple(range(x.ndim - 1))
  of_scale, of_bias = (gradient * normal).sum(rows), gradient.sum(rows)
  gradient = gradient * scale
  along = (gradient * normal).mean(axis=-1, keepdims=True)
  level = gradient.mean(axis=-1, keepdims=True)
  back = rate * (gradient - level - normal * along)
  return back.astype(x.dtype), of_scale, of_bias


_normalise_layer.defvjp(_normalise_layer_forward, _normalise_layer_backward)


class GroupNorm(nn.Module):
  """Normalises groups of channels over some axes, in float32.

  Attributes:
    groups: number of groups; None: one per channel, without scale and bias
      (PyTorch's InstanceNorm).
    axes: axes of the statistics, besides the channels of a group.
    epsilon: added to the variance.
    dtype: of the result.
  """

  groups: int | None
  axes: tuple[int, ...] = (1, 2)
  epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "*n c"],
    mask: Float[Array, "*#n 1"] | None = None,
  ) -> Float[Array, "*n c"]:
    """Normalises `x`; positions where `mask` is 0 are ignored.

    Two passes, as one pass loses precision on raw reflectances.
    """
    channels = x.shape[-1]
    scale = bias = None
    if self.groups is not None:
      scale = self.param("scale", initialise.ones, (channels,))
      bias = self.param("bias", initialise.zeros, (channels,))
    options = (self.groups or channels, self.axes, self.epsilon)
    return _normalise_groups(x, mask, scale, bias, *options).astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _normalise_groups(x, mask, scale, bias, groups, axes, epsilon):
  """Computes `GroupNorm`; `scale` and `bias` are both None or neither.

  Its backward pass takes two sums over `x`, the only residual of that size.
  """
  options = (groups, axes, epsilon)
  return _normalise_groups_forward(x, mask, scale, bias, *options)[0]


def _normalise_groups_forward(x, mask, scale, bias, groups, axes, epsilon):
  weight = 1.0 if mask is None else mask
  count = _count(x, mask, axes)

  def mean(values):
    total = (values * weight).sum(axes, keepdims=True)
    return _group_mean(total, groups) / count

  wide = x.astype(jnp.float32)
  centre = mean(wide)
  rate = jax.lax.rsqrt(mean(jnp.square(wide - centre)) + epsilon)
  y = (wide - centre) * rate
  if scale is not None:
    y = y * scale + bias
  return y, (x, mask, scale, centre, rate)


def _normalise_groups_backward(groups, axes, epsilon, residuals, gradient):
  x, mask, scale, centre, rate = residuals
  count = _count(x, mask, axes)
  normal = (x.astype(jnp.float32) - centre) * rate
  total = gradient.sum(axes, keepdims=True)
  along = (gradient * normal).sum(axes, keepdims=True)
  by_channel = tuple(range(x.ndim - 1))
  back, of_scale, of_bias = gradient, None, None
  if scale is not None:
    of_scale, of_bias = along.sum(by_channel), total.sum(by_channel)
    back, total, along = back * scale, total * scale, along * scale
  total = _group_mean(total, groups) / count
  along = _group_mean(along, groups) / count
  correction = total + normal * along
  if mask is not None:
    correction = correction * mask
  back = (rate * (back - correction)).astype(x.dtype)
  return back, None, of_scale, of_bias


_normalise_groups.defvjp(_normalise_groups_forward, _normalise_groups_backward)


def _count(x, mask, axes):
  """Number of positions along `axes` in the statistics, at least 1."""
  if mask is None:
    return float(math.prod(x.shape[axis] for axis in axes))
  return jnp.maximum(mask.sum(axes, keepdims=True), 1.0)


def _group_mean(values, groups):
  """The mean over the channels of each group, broadcast to [… c]."""
  size = values.shape[-1] // groups
  if size == 1:
    return values
  grouped = values.reshape(*values.shape[:-1], groups, size)
  grouped = grouped.mean(-1, keepdims=True)
  return jnp.broadcast_to(grouped, (*grouped.shape[:-1], size)).reshape(
    values.shape
  )


class BatchNorm(nn.Module):
  """Batch normalisation as in PyTorch, in float32.

  The running variance is unbiased; batches are counted as in PyTorch, so that
  checkpoints convert exactly in both directions.

  Attributes:
    momentum: weight of the new statistics in the running ones.
    epsilon: added to the variance.
    dtype: of the result.
  """

  momentum: float = 0.1
  epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "*n c"],
    train: bool,
    mask: Float[Array, "*#n 1"] | None = None,
  ) -> Float[Array, "*n c"]:
    """Normalises with batch statistics if `train`, else with running ones.

    Args:
      x: values to normalise.
      train: whether to use, and accumulate, the statistics of this batch.
      mask: 1 for positions in the statistics, 0 for others; broadcasts against
        `x`.
    """
    shape = (x.shape[-1],)
    scale = self.param("scale", initialise.ones, shape)
    bias = self.param("bias", initialise.zeros, shape)
    mean = self.variable("batch_stats", "mean", initialise.zeros, None, shape)
    var = self.variable("batch_stats", "var", initialise.ones, None, shape)
    count = self.variable(
      "batch_stats", "count", initialise.zeros, None, (), jnp.int32
    )
    if train:
      wide = jax.lax.stop_gradient(x).astype(jnp.float32)
      centre, variance, number = _moments(wide, mask)
      if not self.is_initializing():
        unbiased = variance * number / jnp.maximum(number - 1.0, 1.0)
        mean.value += self.momentum * (centre - mean.value)
        var.value += self.momentum * (unbiased - var.value)
        # Not in place, as the array may belong to the caller.
        count.value = count.value + 1
      rate = jax.lax.rsqrt(variance + self.epsilon)
      weight = 1.0 / number
      if mask is not None:
        weight = weight * jnp.broadcast_to(mask, (*x.shape[:-1], 1))
      args = (x, scale, bias, centre, rate, weight)
      return _normalise_batch(*args, self.dtype)
    rate = jax.lax.rsqrt(var.value + self.epsilon)
    y = (x.astype(jnp.float32) - mean.value) * (rate * scale) + bias
    return y.astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _normalise_batch(x, scale, bias, centre, rate, weight, dtype):
  """Normalises `x` by its moments, through which it differentiates.

  Args:
    x: values, in their own dtype.
    scale: per channel.
    bias: per channel.
    centre: mean of `x`.
    rate: inverse standard deviation of `x`.
    weight: of each position in the moments.
    dtype: of the result.
  """
  y = (x.astype(jnp.float32) - centre) * (rate * scale) + bias
  return y.astype(dtype)


def _normalise_batch_forward(x, scale, bias, centre, rate, weight, dtype):
  y = _normalise_batch(x, scale, bias, centre, rate, weight, dtype)
  return y, (x, scale, centre, rate, weight)


def _normalise_batch_backward(dtype, residuals, gradient):
  x, scale, centre, rate, weight = residuals
  normal = (x.astype(jnp.float32) - centre) * rate
  gradient = gradient.astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  of_scale, of_bias = (gradient * normal).sum(axes), gradient.sum(axes)
  back = gradient - weight * (of_bias + normal * of_scale)
  back = (rate * scale * back).astype(x.dtype)
  return back, of_scale, of_bias, None, None, None


_normalise_batch.defvjp(_normalise_batch_forward, _normalise_batch_backward)


def _moments(x, mask):
  """Mean [c], biased variance [c] and number of positions in `mask`."""
  axes = tuple(range(x.ndim - 1))
  if mask is None:
    mean = x.mean(axes)
    return mean, jnp.square(x - mean).mean(axes), float(x.size // x.shape[-1])
  mask = jnp.broadcast_to(mask, (*x.shape[:-1], 1))
  number = jnp.maximum(mask.sum(), 1.0)
  mean = (x * mask).sum(axes) / number
  return mean, (jnp.square(x - mean) * mask).sum(axes) / number, number
