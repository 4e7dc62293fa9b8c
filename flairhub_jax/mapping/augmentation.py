"""Test-time augmentation: probabilities averaged over forms of one window.

The forms are the eight symmetries of the square, and subsets of the dates of
time series.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flairhub_jax.errors import InputError

_NUM_SYMMETRIES = 8

Forward = Callable[[Mapping[str, Any]], Any]


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Forms of a window whose probabilities are averaged.

  Attributes:
    with_symmetries: whether to flip and turn windows.
    date_subsets: number of interleaved subsets of the dates of each series; 1:
      all dates at once.
  """

  with_symmetries: bool = False
  date_subsets: int = 1

  def origin(self) -> dict[str, Any]:
    """What the metadata of a map say of it."""
    origin: dict[str, Any] = {"tta": True} if self.with_symmetries else {}
    if self.date_subsets > 1:
      origin["date_subsets"] = self.date_subsets
    return origin

  def check(
    self, shapes: Iterable[tuple[int, int]], lengths: Mapping[str, int]
  ) -> None:
    """Checks that windows have these forms.

    Args:
      shapes: rows and columns of a window in the map and in each input.
      lengths: series -> number of its dates in a window.

    Raises:
      InputError: windows that are not square, or too few dates.
    """
    oblong = [shape for shape in shapes if shape[0] != shape[1]]
    if self.with_symmetries and oblong:
      rows, columns = oblong[0]
      raise InputError(
        "--tta", "square windows of square pixels", f"{rows} x {columns} pixels"
      )
    most = max(lengths.values(), default=0)
    if self.date_subsets != 1 and not 1 <= self.date_subsets <= most:
      series = f"1-{most}, the dates of a series" if most else "a time series"
      found = self.date_subsets if most else "images alone"
      raise InputError("--date-subsets", series, found)

  def average(self, forward: Forward, batch: Mapping[str, Any]) -> Any:
    """The mean of a network's results over all forms of a batch.

    Args:
      forward: batch -> tree of float32 [b h w k]; compiled once, in a loop.
      batch: of the network.
    """
    num_symmetries = _NUM_SYMMETRIES if self.with_symmetries else 1
    num_forms = self.date_subsets * num_symmetries
    if num_forms == 1:
      return forward(batch)

    def add_form(number, state):
      inputs, total = state
      form = take_dates(
        {**batch, "inputs": inputs}, number // num_symmetries, self.date_subsets
      )
      state = inputs, jax.tree.map(jnp.add, total, forward(form))
      # The sums move with the inputs: both are of the same ground.
      return reflect(state, number) if self.with_symmetries else state

    zeros = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(forward, batch)
    )
    state = batch["inputs"], zeros
    _, total = jax.lax.fori_loop(0, num_forms, add_form, state)
    return jax.tree.map(lambda x: x / num_forms, total)


NONE = Augmentation()


def reflect(tree: Any, number: int | jax.Array) -> Any:
  """Reflects arrays [... h w c]: even numbers transpose, odd ones flip rows.

  Numbers 0 to 7 in turn pass through the eight symmetries of the square, and
  end at the first.
  """
  return jax.lax.cond(
    number % 2 == 0,
    lambda tree: jax.tree.map(lambda x: jnp.swapaxes(x, -3, -2), tree),
    lambda tree: jax.tree.map(lambda x: jnp.flip(x, -3), tree),
    tree,
  )


def take_dates(
  batch: Mapping[str, Any], subset: int | jax.Array, count: int
) -> Mapping[str, Any]:
  """Keeps every `count`-th valid date of each series, from `subset` on.

  Subsets of a series with fewer valid dates than `count` repeat them.

  Args:
    batch: of the network.
    subset: from 0.
    count: number of subsets.
  """
  if count == 1:
    return batch
  arrays = {key: dict(batch[key]) for key in ("inputs", "dates", "valid")}
  for name, valid in batch["valid"].items():
    rank = jnp.cumsum(valid, -1) - 1
    first = subset % jnp.maximum(valid.sum(-1, keepdims=True), 1)
    is_member = valid & (rank % count == first)
    # Its dates in order, and others, which are not valid in it.
    order = jnp.argsort(~is_member, axis=-1, stable=True)
    order = order[:, : math.ceil(valid.shape[-1] / count)]

    def take(x, order=order):
      index = order.reshape(*order.shape, *[1] * (x.ndim - 2))
      return jnp.take_along_axis(x, index, 1)

    for key in ("inputs", "dates"):
      arrays[key][name] = take(batch[key][name])
    arrays["valid"][name] = take(is_member)
  return {**batch, **arrays}
