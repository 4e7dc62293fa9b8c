"""The network over a batch of windows: weighted probabilities of each task."""

import functools
import hashlib
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flairhub_jax import mesh
from flairhub_jax.mapping.augmentation import NONE, Augmentation
from flairhub_jax.mapping.layout import Layout

# Task -> the position of the merged class of each class of a network.
Groups = Mapping[str, Sequence[int]]
# Compiled programs by the digest of their text.
Programs = MutableMapping[str, jax.stages.Compiled]


class WindowNetwork:
  """A network compiled for the windows of one map.

  Attributes:
    batch_size: windows of a batch, a multiple of the number of devices.
    memory: bytes that the compiled program needs, weights included; 0 if
      unavailable.
  """

  def __init__(
    self,
    model: Any,
    variables: Any,
    example: Mapping[str, Any],
    layout: Layout,
    *,
    batch_size: int,
    augmentation: Augmentation = NONE,
    groups: Groups | None = None,
    programs: Programs | None = None,
  ):
    """Compiles the program.

    Args:
      model: the network, with logits of `layout.logits`.
      variables: its weights, the same in every process.
      example: a batch of one window, for shapes.
      layout: of the map.
      batch_size: windows of a batch, before rounding up.
      augmentation: forms of a window whose probabilities are averaged.
      groups: of the tasks whose classes are merged, if any.
      programs: of other networks of the map; those that differ in weights only
        share one. Gets the program of this one.
    """
    self._devices = mesh.build_local_mesh()
    count = self._devices.size
    self.batch_size = -(-batch_size // count) * count
    self._variables = jax.device_put(
      jax.device_get(variables), mesh.replicated(self._devices)
    )
    shares = {
      "rows": np.zeros((1, layout.shape[0]), np.float32),
      "columns": np.zeros((1, layout.shape[1]), np.float32),
    }
    shapes = mesh.batch_shapes(
      {"batch": dict(example), "shares": shares}, self.batch_size, self._devices
    )
    step = jax.jit(
      _make_step(model, layout, augmentation, groups or {}),
      out_shardings=mesh.split_batch(self._devices),
      compiler_options=mesh.compiler_options(model.deterministic),
    )
    lowered = step.lower(self._variables, shapes["batch"], shapes["shares"])
    self._step = _compile(lowered, {} if programs is None else programs)
    self.memory = _memory(self._step)

  def __call__(
    self,
    batch: Mapping[str, Any],
    rows: np.ndarray,
    columns: np.ndarray,
  ) -> dict[str, jax.Array]:
    """Starts a batch.

    Args:
      batch: inputs of all its windows.
      rows: float32 [b h], weight of each row of each window.
      columns: float32 [b w], weight of each column.

    Returns:
      Task -> float32 [b h w k], probabilities times weights.
    """
    arrays = mesh.place_batch(
      {"batch": batch, "shares": {"rows": rows, "columns": columns}},
      self._devices,
    )
    return self._step(self._variables, arrays["batch"], arrays["shares"])


def _compile(
  lowered: jax.stages.Lowered, programs: Programs
) -> jax.stages.Compiled:
  digest = hashlib.sha256(lowered.as_text().encode()).hexdigest()
  if digest not in programs:
    programs[digest] = lowered.compile()
  return programs[digest]


def _make_step(
  model: Any, layout: Layout, augmentation: Augmentation, groups: Groups
) -> Any:
  index = None
  if layout.shape != layout.logits:
    index = tuple(
      _nearest(pixels, size, layout.margin)
      for pixels, size in zip(layout.shape, layout.logits, strict=True)
    )

  def probabilities(batch, variables):
    logits = model.apply(variables, batch, train=False)["logits"]
    values = {
      task: jax.nn.softmax(own.astype(jnp.float32), -1)
      for task, own in logits.items()
    }
    merged = {task: _merge(values[task], own) for task, own in groups.items()}
    return {**values, **merged}

  def step(variables, batch, shares):
    forward = functools.partial(probabilities, variables=variables)
    weights = shares["rows"][:, :, None] * shares["columns"][:, None, :]

    def weigh(values):
      if index is not None:
        values = values[:, index[0]][:, :, index[1]]
      return values * weights[..., None]

    return jax.tree.map(weigh, augmentation.average(forward, batch))

  return step


def _merge(
  values: Float[jax.Array, "b h w k"], groups: Sequence[int]
) -> Float[jax.Array, "b h w m"]:
  """The probability of a merged class is the sum of those of its classes."""
  members = [
    np.flatnonzero(np.equal(groups, m)) for m in range(max(groups) + 1)
  ]
  return jnp.stack([values[..., own].sum(-1) for own in members], -1)


def _nearest(pixels: int, size: int, margin: int) -> np.ndarray:
  """Index of the pixel of the logits for each pixel of the map.

  The rule is the reference's (`scipy.ndimage.zoom` of order 0): the first and
  last pixels of the centre go to the first and last, others in proportion.

  Args:
    pixels: of a window of the map.
    size: of the logits.
    margin: of the logits, left out on each side.
  """
  outside = round(margin * pixels / size)
  step = (size - 2 * margin - 1) / max(pixels - 2 * outside - 1, 1)
  index = np.rint((np.arange(pixels) - outside) * step) + margin
  return np.clip(index, 0, size - 1).astype(np.int32)


def _memory(compiled: Any) -> int:
  analysis = compiled.memory_analysis()
  if analysis is None:
    return 0
  return int(
    analysis.temp_size_in_bytes
    + analysis.argument_size_in_bytes
    + analysis.output_size_in_bytes
  )
