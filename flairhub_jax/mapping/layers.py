"""Layers of a map: classes, and what their probabilities say about them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Num

from flairhub_jax.schema import NO_LABEL

# A share p of 0-1 is stored as round(250 p); 255 is no data.
STEPS = 250
# Type of stored probabilities -> its value for no data.
NO_DATA = {"uint8": float(NO_LABEL), "float32": float("nan")}


def _confidence(probabilities: np.ndarray) -> np.ndarray:
  return probabilities.max(-1)


def _entropy(probabilities: np.ndarray) -> np.ndarray:
  """Entropy as a share of that of equal probabilities."""
  if probabilities.shape[-1] == 1:
    return np.zeros(probabilities.shape[:-1], np.float32)
  positive = np.maximum(probabilities, np.finfo(np.float32).tiny)
  entropy = -(positive * np.log(positive)).sum(-1)
  return entropy / np.log(probabilities.shape[-1])


def _margin(probabilities: np.ndarray) -> np.ndarray:
  if probabilities.shape[-1] == 1:
    return np.ones(probabilities.shape[:-1], np.float32)
  two = np.partition(probabilities, -2, -1)
  return two[..., -1] - two[..., -2]


@dataclasses.dataclass(frozen=True)
class Measure:
  """A number of 0-1 of the probabilities of a pixel.

  Attributes:
    title: description of its band.
    compute: probabilities [... k] -> [...].
  """

  title: str
  compute: Callable[[np.ndarray], np.ndarray]


MEASURES = {
  "confidence": Measure("largest probability", _confidence),
  "entropy": Measure("entropy of the probabilities, 0-1", _entropy),
  "margin": Measure("largest minus second probability", _margin),
}


@dataclasses.dataclass(frozen=True)
class Layers:
  """Layers to write of each task.

  Attributes:
    probabilities: task -> indices of the classes whose probability is written.
    measures: names in `MEASURES`.
    dtype: of stored probabilities, a key of `NO_DATA`.
  """

  probabilities: Mapping[str, tuple[int, ...]] = dataclasses.field(
    default_factory=dict
  )
  measures: tuple[str, ...] = ()
  dtype: str = "uint8"

  def pixel_bytes(self, tasks: Sequence[str]) -> dict[str, int]:
    """Bytes of a pixel of each layer, by `<task>.<kind>`."""
    sizes = {}
    for task in tasks:
      sizes[f"{task}.classes"] = 1
      sizes |= {f"{task}.{name}": 1 for name in self.measures}
      indices = self.probabilities.get(task)
      if indices:
        size = len(indices) * np.dtype(self.dtype).itemsize
        sizes[f"{task}.probabilities"] = size
    return sizes

  def of_rows(
    self,
    task: str,
    sums: Float[np.ndarray, "r w k"],
    has_data: Bool[np.ndarray, "r w"],
  ) -> dict[str, Num[np.ndarray, "r n w"]]:
    """Layers of finished rows of a task."""

    def stored(values, dtype="uint8"):
      values = np.clip(values, 0, 1)
      if dtype == "uint8":
        values = np.rint(values * STEPS)
      return np.where(has_data, values, NO_DATA[dtype]).astype(dtype)

    classes = np.where(has_data, sums.argmax(-1), NO_LABEL)
    layers = {f"{task}.classes": classes.astype(np.uint8)[:, None]}
    for name in self.measures:
      values = MEASURES[name].compute(sums)
      layers[f"{task}.{name}"] = stored(values)[:, None]
    if self.probabilities.get(task):
      indices = self.probabilities[task]
      bands = [stored(sums[..., k], self.dtype) for k in indices]
      layers[f"{task}.probabilities"] = np.stack(bands, 1)
    return layers
