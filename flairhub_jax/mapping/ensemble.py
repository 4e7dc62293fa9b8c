"""Several networks over the windows of one map: averaged probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flairhub_jax.mapping.examples import Reader, Window
from flairhub_jax.mapping.network import WindowNetwork


class EnsembleReader:
  """Reads the windows of a map as examples of several networks.

  The example of a window has `members`, that of each network by its number, and
  `shares`, their weights: networks without data there have weight 0.
  """

  def __init__(self, readers: Sequence[Reader]):
    """Takes a reader for each network."""
    self._readers = tuple(readers)

  def read(self, row: int, column: int) -> Window | None:
    """Reads one window; None if no network has data there."""
    windows = [reader.read(row, column) for reader in self._readers]
    with_data = [window for window in windows if window is not None]
    if not with_data:
      return None
    members = [
      reader.empty_example() if window is None else window.example
      for reader, window in zip(self._readers, windows, strict=True)
    ]
    shares = np.array([window is not None for window in windows], np.float32)
    absent = {name for window in with_data for name in window.absent_sensors}
    for reader, window in zip(self._readers, windows, strict=True):
      absent.update(reader.pixels if window is None else ())
    return Window(
      row,
      column,
      _example(members, shares / shares.sum()),
      np.logical_or.reduce([window.has_data for window in with_data]),
      tuple(sorted(absent)),
    )

  def empty_example(self) -> dict[str, Any]:
    """An example without data, which fills batches."""
    examples = [reader.empty_example() for reader in self._readers]
    return _example(examples, np.zeros(len(examples), np.float32))


def _example(members, shares) -> dict[str, Any]:
  numbered = {str(number): each for number, each in enumerate(members)}
  return {"members": numbered, "shares": shares}


class EnsembleNetwork:
  """Networks compiled for the windows of one map.

  Attributes:
    batch_size: windows of a batch.
    memory: bytes that the compiled programs need, at most.
  """

  def __init__(self, networks: Sequence[WindowNetwork]):
    """Takes the networks in the order of their readers."""
    self._networks = tuple(networks)
    self.batch_size = networks[0].batch_size
    self.memory = sum(network.memory for network in networks)
    self._add = jax.jit(
      lambda total, values: jax.tree.map(jnp.add, total, values),
      donate_argnums=0,
    )

  def __call__(
    self,
    batch: Mapping[str, Any],
    rows: Float[np.ndarray, "b h"],
    columns: Float[np.ndarray, "b w"],
  ) -> dict[str, jax.Array]:
    """Starts a batch; as `WindowNetwork`."""
    total = None
    for number, network in enumerate(self._networks):
      own_rows = rows * batch["shares"][:, number, None]
      values = network(batch["members"][str(number)], own_rows, columns)
      total = values if total is None else self._add(total, values)
    return total


# What maps a region: one network, or several.
MapReader = Reader | EnsembleReader
MapNetwork = WindowNetwork | EnsembleNetwork
