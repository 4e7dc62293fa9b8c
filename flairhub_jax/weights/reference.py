"""The reference's names and layouts for our variables, both ways.

`names.py` says what the reference calls each of them. Nothing is guessed and
nothing is skipped: a file that does not fit is an error that lists every key.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from flairhub_jax import errors
from flairhub_jax.weights.names import reference_key

_PREFIX = "model."
_IGNORED = "criterion."


def _patch_layout(side):
  """Kernels [side * side * in, out] of patches that do not overlap."""
  return (
    lambda x: x.reshape(side, side, -1, x.shape[-1]).transpose(3, 2, 0, 1),
    lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),
  )


# Kind of layout -> from ours to PyTorch's, and back.
_LAYOUTS = {
  "linear": (lambda x: x.T, lambda x: x.T),
  "pixel": (lambda x: x.T[:, :, None, None], lambda x: x[:, :, 0, 0].T),
  "line": (lambda x: x.T[:, :, None], lambda x: x[:, :, 0].T),
  "image": (
    lambda x: x.transpose(3, 2, 0, 1),
    lambda x: x.transpose(2, 3, 1, 0),
  ),
  "transposed": (
    lambda x: x.transpose(2, 3, 0, 1),
    lambda x: x.transpose(2, 3, 0, 1),
  ),
  "depthwise": (
    lambda x: x.transpose(2, 0, 1)[:, None],
    lambda x: x[:, 0].transpose(1, 2, 0),
  ),
  "patch2": _patch_layout(2),
  "patch4": _patch_layout(4),
  "": (lambda x: x, lambda x: x),
}


def from_reference(
  tensors: Mapping[str, np.ndarray],
  variables_shape: Mapping[str, Any],
  *,
  where: object = "weights",
  resize_bias_tables: bool = False,
) -> dict[str, Any]:
  """Turns the reference's tensors into variables of a network.

  Args:
    tensors: its state dictionary, with or without the prefix `model.`; class
      weights (`criterion.…`) are left out.
    variables_shape: what `jax.eval_shape(segmenter.init, …)` returns.
    where: what error messages call the file.
    resize_bias_tables: whether tables of relative positions of another window
      are resized bicubically, as the reference does, for other image sizes.

  Returns:
    Variables of the structure of `variables_shape`, as numpy arrays.

  Raises:
    InputErrors: keys that are missing, left over or of another shape, all of
      them.
  """
  found = {k: v for k, v in tensors.items() if not k.startswith(_IGNORED)}
  if found and all(k.startswith(_PREFIX) for k in found):
    found = {k.removeprefix(_PREFIX): v for k, v in found.items()}
  leaves, tree = jax.tree_util.tree_flatten_with_path(dict(variables_shape))
  problems, values = [], []
  for path, leaf in leaves:
    key, kind = reference_key("/".join(part.key for part in path[1:]))
    expected = torch_shape(leaf.shape, kind)
    tensor = found.pop(key, None)
    if tensor is None:
      problems.append(f"{where}: {key}: expected {expected}, found nothing")
      continue
    tensor = np.asarray(tensor)
    if resize_bias_tables and key.endswith("bias_table"):
      tensor = resize_bias_table(tensor, leaf.shape[0])
    if tensor.shape != expected:
      problems.append(
        f"{where}: {key}: expected {expected}, found {tensor.shape}"
      )
      continue
    values.append(np.asarray(_LAYOUTS[kind][1](tensor), leaf.dtype))
  problems += [
    f"{where}: {key}: expected no such key, found {np.shape(tensor)}"
    for key, tensor in found.items()
  ]
  if problems:
    raise errors.InputErrors(problems)
  return jax.tree_util.tree_unflatten(tree, values)


def to_reference(
  variables: Mapping[str, Any], *, prefix: str = ""
) -> dict[str, np.ndarray]:
  """Turns variables into the reference's state dictionary.

  Args:
    variables: parameters and running statistics of a network.
    prefix: put before each key; `model.` as in the published files.

  Returns:
    Key -> array, in PyTorch's layout; float32, counters int64.
  """
  tensors = {}
  leaves, _ = jax.tree_util.tree_flatten_with_path(dict(variables))
  for path, leaf in leaves:
    key, kind = reference_key("/".join(part.key for part in path[1:]))
    is_counter = np.issubdtype(leaf.dtype, np.integer)
    value = np.asarray(leaf, np.int64 if is_counter else np.float32)
    value = _LAYOUTS[kind][0](value)
    tensors[prefix + key] = np.ascontiguousarray(value).reshape(value.shape)
  return tensors


def torch_shape(shape: tuple[int, ...], kind: str) -> tuple[int, ...]:
  """Shape that a variable of ours has in PyTorch's layout."""
  return _LAYOUTS[kind][0](np.broadcast_to(np.float32(0), shape)).shape


def resize_bias_table(
  table: Float[np.ndarray, "n heads"], rows: int
) -> Float[np.ndarray, "rows heads"]:
  """Resizes a square table of relative positions, bicubically as PyTorch.

  A table that is not square, or would not become so, is returned as it is.
  """
  old, new = round(len(table) ** 0.5), round(rows**0.5)
  if len(table) == rows or old * old != len(table) or new * new != rows:
    return table
  matrix = _bicubic_matrix(new, old)
  square = table.reshape(old, old, -1).astype(np.float64)
  square = np.einsum("ph,qw,hwc->pqc", matrix, matrix, square)
  return square.reshape(rows, -1).astype(table.dtype)


def _bicubic_matrix(out, size, a=-0.75):
  """Weights [out size] of PyTorch's bicubic resize, corners not aligned."""
  where = (np.arange(out) + 0.5) * (size / out) - 0.5
  first = np.floor(where).astype(int)
  matrix = np.zeros((out, size))
  for tap in range(-1, 3):
    x = np.abs(where - (first + tap))
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    index = np.clip(first + tap, 0, size - 1)
    np.add.at(matrix, (np.arange(out), index), np.where(x <= 1, near, far))
  return matrix
