"""Parameter initialisation: PyTorch's distributions, drawn on the host."""

import contextlib
import contextvars
import dataclasses
import math
import zlib
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key

from flairhub_jax.array_type import Array
from flairhub_jax.errors import InputError

_describing = contextvars.ContextVar("describing", default=False)


@dataclasses.dataclass(frozen=True)
class Draw:
  """An initialiser with its distribution.

  Attributes:
    kind: "uniform" in ±scale, "normal" with deviation scale, or "constant".
    scale: see `kind`.
  """

  kind: str
  scale: float

  def __call__(
    self,
    key: Key[Array, ""] | None,
    shape: tuple[int, ...],
    dtype: Any = jnp.float32,
  ) -> Any:
    """Draws on the device; within `describing`, returns `Described`."""
    if _describing.get():
      return Described(jnp.zeros(shape, dtype), self)
    if self.kind == "constant":
      return jnp.full(shape, self.scale, dtype)
    if self.kind == "uniform":
      return jax.random.uniform(key, shape, dtype, -self.scale, self.scale)
    return self.scale * jax.random.normal(key, shape, dtype)

  def on_host(
    self, rng: np.random.Generator, shape: tuple[int, ...]
  ) -> Float[np.ndarray, "..."]:
    """Draws the same distribution with numpy, float32."""
    if self.kind == "constant":
      return np.full(shape, self.scale, np.float32)
    if self.kind == "uniform":
      return (2.0 * rng.random(shape, np.float32) - 1.0) * self.scale
    return rng.standard_normal(shape, np.float32) * self.scale


class Described(flax.struct.PyTreeNode, nn.meta.AxisMetadata[Any]):
  """A parameter in a tree, with its shape and distribution."""

  value: Any
  draw: Draw = flax.struct.field(pytree_node=False)

  def unbox(self) -> Any:
    """Returns the value, as modules use it."""
    return self.value

  def replace_boxed(self, val: Any) -> "Described":
    """Replaces the value."""
    return self.replace(value=val)

  def add_axis(self, index: int, params: dict[Any, Any]) -> "Described":
    """Unchanged: the draw does not depend on mapped axes."""
    return self

  def remove_axis(self, index: int, params: dict[Any, Any]) -> "Described":
    """Unchanged: the draw does not depend on mapped axes."""
    return self


@contextlib.contextmanager
def describing() -> Iterator[None]:
  """Makes initialisers return `Described` instead of drawing."""
  token = _describing.set(True)
  try:
    yield
  finally:
    _describing.reset(token)


def torch_uniform(fan_in: int) -> Draw:
  """Uniform in ±1/sqrt(fan_in): PyTorch's default for weights and biases."""
  return Draw("uniform", 1.0 / math.sqrt(fan_in))


def kaiming_uniform(
  key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Any:
  """PyTorch's `kaiming_uniform_` for ReLU, for kernels [... in out]."""
  bound = math.sqrt(6.0 / math.prod(shape[:-1]))
  return Draw("uniform", bound)(key, shape, dtype)


def kaiming_normal(
  key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Any:
  """PyTorch's `kaiming_normal_` by fan-out for ReLU, for [... in out]."""
  fan_out = math.prod(shape) // shape[-2]
  return Draw("normal", math.sqrt(2.0 / fan_out))(key, shape, dtype)


def xavier_uniform(
  key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Any:
  """PyTorch's `xavier_uniform_`, for kernels [... in out]."""
  fans = math.prod(shape[:-2]) * (shape[-2] + shape[-1])
  return Draw("uniform", math.sqrt(6.0 / fans))(key, shape, dtype)


small_normal = Draw("normal", 0.02)  # as in transformers
zeros = Draw("constant", 0.0)
ones = Draw("constant", 1.0)


def trace(segmenter: nn.Module, batch: Any) -> Any:
  """Traces `segmenter.init` on shapes.

  Raises:
    InputError: incompatible sizes, such as heads that do not divide a width, a
      kernel larger than the features, and any other error that Flax raises.
  """
  key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
  try:
    return jax.eval_shape(segmenter.init, key, batch)
  except InputError:
    raise
  except (ValueError, TypeError, AssertionError, ArithmeticError) as error:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    raise InputError(
      "config.model", "a network that can be built", text
    ) from error


def init_variables(
  segmenter: nn.Module, batch: Any, *, seed: int
) -> dict[str, Any]:
  """Draws parameters on the host, without compilation.

  `jax.jit(segmenter.init)` compiles a kernel per parameter: a minute for
  a small network, several for a large one. A parameter depends only on the seed
  and its name, so modules that networks have in common start equally.

  Args:
    segmenter: the network.
    batch: any batch, or its shapes; only shapes are read.
    seed: of the initialisation.

  Returns:
    Variables as numpy arrays, float32 (counters int32).

  Raises:
    InputError: see `trace`.
  """
  with describing():
    return draw(trace(segmenter, batch), seed=seed)


def draw(described: Any, *, seed: int) -> dict[str, Any]:
  """Draws a tree of `Described` on the host; each depends on seed and name."""

  def draw_leaf(path, leaf):
    name = "/".join(part.key for part in path)
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    drawn = leaf.draw.on_host(rng, leaf.value.shape)
    return drawn.astype(leaf.value.dtype, copy=False)

  return jax.tree_util.tree_map_with_path(
    draw_leaf, described, is_leaf=lambda leaf: isinstance(leaf, Described)
  )
