"""Weights and inputs of this folder's numbers, as functions of names.

The program that runs the reference (`experiments/fidelity/fixtures`) and the
tests draw the same values from here; only NumPy is needed. Layouts are the
reference's (PyTorch's): channels before rows and columns.
"""

import zlib
from typing import Any

import numpy as np

# Days of a year from its 15 May.
_FIRST_DAY, _LAST_DAY = -130, 225


def random(name: str) -> np.random.Generator:
  """The stream of random numbers that belongs to a name."""
  return np.random.default_rng(zlib.crc32(name.encode()))


def make_param(key: str, shape: Any, dtype: Any = "float32") -> np.ndarray:
  """The tensor called `key` in a `state_dict` of the reference.

  Activations keep about their size from layer to layer: a kernel has the
  variance 1 / fan-in, scales lie near 1 and shifts near 0.
  """
  shape = tuple(shape)
  if not str(dtype).startswith("float"):
    return np.zeros(shape, np.int64)
  draws, name = random(key), key.rpartition(".")[2]
  if name == "running_var":
    values = draws.uniform(0.6, 1.6, shape)
  elif name == "relative_position_bias_table":
    values = draws.normal(0, 0.4, shape)
  elif len(shape) > 1:
    values = draws.normal(0, np.prod(shape[1:]) ** -0.5, shape)
  elif name == "weight":
    values = draws.uniform(0.8, 1.2, shape)
  else:
    values = draws.uniform(-0.2, 0.2, shape)
  return values.astype(np.float32)


def make_input(case: str, spec: dict[str, Any]) -> np.ndarray:
  """The input `spec["name"]` of a case.

  Args:
    case: Name of the case.
    spec: `kind`, `shape`, and `n_valid` of a series (dates per sample; what
      follows is zero) or `classes` of a label.

  Returns:
    float32 `image` [b c h w], `s2` or `s1` [b t c h w], `dates` [b t] (days,
    ascending), or int64 `label` [b h w].
  """
  draws, kind = random(f"{case}/{spec['name']}"), spec["kind"]
  shape = tuple(spec["shape"])
  if kind == "label":
    return _blocks(
      draws.integers(0, spec["classes"], (shape[0], 1, *_coarse(shape))), shape
    )[:, 0]
  if kind == "image":
    coarse = draws.standard_normal((*shape[:2], *_coarse(shape)))
    x = 0.7 * _blocks(coarse, shape) + 0.7 * draws.standard_normal(shape)
  elif kind == "s2":
    x = np.rint(draws.uniform(1, 4000, shape))
  elif kind == "s1":
    x = draws.normal(-13, 4, shape)
  elif kind == "dates":
    days = np.arange(_FIRST_DAY, _LAST_DAY)
    x = np.stack(
      [np.sort(draws.choice(days, shape[1], False)) for _ in range(shape[0])]
    )
  else:
    raise ValueError(kind)
  x = x.astype(np.float32)
  for sample_of_batch, length in zip(x, spec.get("n_valid", ()), strict=False):
    sample_of_batch[length:] = 0
  return x


def sample(x: np.ndarray, n: int = 2048) -> np.ndarray:
  """At most n of the flat values, the first and the last among them."""
  flat = np.asarray(x).reshape(-1)
  return flat[np.linspace(0, flat.size - 1, min(n, flat.size)).astype(int)]


def stats(x: np.ndarray) -> np.ndarray:
  """Mean, deviation, mean size, least and largest value."""
  x = np.asarray(x, np.float64)
  return np.array([x.mean(), x.std(), np.abs(x).mean(), x.min(), x.max()])


def _coarse(shape):
  """Numbers of blocks of 8 pixels that cover the last two axes."""
  return tuple(-(-side // 8) for side in shape[-2:])


def _blocks(coarse, shape):
  """Repeats each value over 8 x 8 pixels."""
  fine = coarse.repeat(8, -2).repeat(8, -1)
  return fine[..., : shape[-2], : shape[-1]]
