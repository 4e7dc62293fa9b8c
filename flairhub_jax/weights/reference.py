"""Conversion between the reference's tensors and our variables.

`names.py` has the reference's key of each variable. Loading is strict: the
error for a file that does not fit lists every key.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flairhub_jax import errors
from flairhub_jax.models.swin import resize_bias_table
from flairhub_jax.weights import prefixes
from flairhub_jax.weights.names import reference_key

# Prefix of class weights, which the reference stores with the network.
_CRITERION = "criterion."


def _patch_layout(size):
  """Layout of patch embeddings: our kernels are [size * size * in, out]."""
  return (
    lambda x: x.reshape(size, size, -1, x.shape[-1]).transpose(3, 2, 0, 1),
    lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),
  )


# Kind of layout -> conversion from ours to PyTorch's, and back.
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


@dataclasses.dataclass(frozen=True)
class Fitted:
  """Variables converted from the reference's tensors.

  Attributes:
    variables: with the structure of the network's, as NumPy arrays.
    reference_only: with the structure of `reference_only.describe`.
    notes: exceptions and changes, one line each.
  """

  variables: dict[str, Any]
  reference_only: dict[str, Any]
  notes: tuple[str, ...]


def from_reference(
  tensors: Mapping[str, np.ndarray],
  variables_shape: Mapping[str, Any],
  reference_only_shape: Mapping[str, Any] | None = None,
  *,
  where: object = "weights",
  resize_bias_tables: bool = False,
) -> dict[str, Any]:
  """Returns the variables of `fit_reference` without exceptions."""
  return fit_reference(
    tensors,
    variables_shape,
    reference_only_shape,
    where=where,
    resize_bias_tables=resize_bias_tables,
  ).variables


def fit_reference(
  tensors: Mapping[str, np.ndarray],
  variables_shape: Mapping[str, Any],
  reference_only_shape: Mapping[str, Any] | None = None,
  *,
  where: object = "weights",
  resize_bias_tables: bool = False,
  allow: re.Pattern[str] | None = None,
  start: Callable[[], tuple[Any, Any]] | None = None,
) -> Fitted:
  """Converts the reference's tensors to the variables of a network.

  Args:
    tensors: its state dictionary, with or without the prefixes of wrappers
      (`prefixes.strip`); class weights (`criterion.…`) are ignored.
    variables_shape: from `build.variables_shape`.
    reference_only_shape: from `reference_only.shape_of`.
    where: name of the file in error messages.
    resize_bias_tables: whether to resize relative position bias tables.
    allow: matches keys that may be missing, unexpected or of another shape.
    start: initialises both trees; called only if an allowed key is missing.

  Raises:
    InputErrors: all keys that are missing, unexpected or of another shape.
  """
  leaves, tree = jax.tree_util.tree_flatten_with_path(
    (dict(variables_shape), dict(reference_only_shape or {}))
  )
  named = [
    reference_key("/".join(part.key for part in path[2:])) for path, _ in leaves
  ]
  stripped, notes = prefixes.strip(tensors, {key for key, _ in named}, allow)
  problems, values, initialised = [], [], []
  for (_, leaf), (key, kind) in zip(leaves, named, strict=True):
    expected = torch_shape(leaf.shape, kind)
    tensor = stripped.pop(key, None)
    tensor = None if tensor is None else np.asarray(tensor)
    if resize_bias_tables and tensor is not None and key.endswith("bias_table"):
      old, tensor = tensor.shape, resize_bias_table(tensor, leaf.shape[0])
      if tensor.shape != old:
        notes.append(f"{key}: resized from {old} to {tensor.shape}")
    fault = _fault(tensor, expected, leaf.dtype)
    if fault is None:
      values.append(np.asarray(from_torch(tensor, kind), leaf.dtype))
    elif allow is not None and allow.search(key):
      notes.append(f"{key}: {fault}; initialised")
      initialised.append(len(values))
      values.append(None)
    else:
      problems.append(f"{where}: {key}: {fault}")
  unexpected = _unexpected(stripped, allow, where, notes)
  if problems or unexpected:
    raise errors.InputErrors(errors.in_turn(problems, unexpected))
  if initialised:
    initial = jax.tree.leaves(start())
    for index in initialised:
      values[index] = np.asarray(initial[index])
  variables, reference_only = jax.tree_util.tree_unflatten(tree, values)
  return Fitted(variables, reference_only, tuple(notes))


def _unexpected(tensors, allow, where, notes):
  """Returns an error line per unexpected key; adds notes on allowed ones."""
  problems = []
  for key, tensor in tensors.items():
    if _CRITERION in key:
      continue
    fault = f"expected no such key, found {np.shape(tensor)}"
    if allow is not None and allow.search(key):
      notes.append(f"{key}: {fault}; ignored")
    else:
      problems.append(f"{where}: {key}: {fault}")
  return problems


def _fault(tensor, expected, dtype):
  """Returns why a tensor does not fit, or None."""
  if tensor is None:
    return f"expected {expected}, found nothing"
  if tensor.shape != expected:
    return f"expected {expected}, found {tensor.shape}"
  if np.issubdtype(dtype, np.integer) != np.issubdtype(
    tensor.dtype, np.integer
  ):
    return f"expected {np.dtype(dtype).name}, found {tensor.dtype.name}"
  if np.issubdtype(dtype, np.integer):
    limits = np.iinfo(dtype)
    if not limits.min <= int(tensor) <= limits.max:
      return f"expected at most {limits.max}, found {int(tensor)}"
  return None


def class_weights(
  weights: Mapping[str, Sequence[float] | np.ndarray], auxiliary: Sequence[str]
) -> dict[str, np.ndarray]:
  """Returns class weights under the keys of the reference.

  Args:
    weights: task -> one weight per class.
    auxiliary: modalities with an auxiliary decoder.
  """
  tensors = {}
  for task, values in weights.items():
    for loss in (task, *(f"aux_{modality}_{task}" for modality in auxiliary)):
      tensors[f"{_CRITERION}{loss}.weight"] = np.asarray(values, np.float32)
  return tensors


def fitting_size(
  tensors: Mapping[str, np.ndarray], modality: str, window: int, published: int
) -> int:
  """Returns the image size that fits a Swin's position bias tables.

  A window, and its table with it, shrinks to features smaller than it.

  Args:
    tensors: the reference's state dictionary.
    modality: of the encoder.
    window: size of the encoder's windows before they shrink.
    published: size of the published patches, tried first.

  Returns:
    The size for which no table is resized; `published` if there is none.
  """
  pattern = re.compile(
    rf"(?:.*\.)?encoders\.{re.escape(modality)}\."
    r"seg_model\.model\.layers_(\d)\..*bias_table"
  )
  rows = {}
  for key, tensor in tensors.items():
    match = pattern.fullmatch(prefixes.unwrap(key))
    if match and tensor.ndim == 2:
      rows.setdefault(int(match[1]), set()).add(len(tensor))
  last = math.isqrt(max(rows.get(3, {0})))
  for size in (published, 16 * (last + 1)):
    if rows and all(
      rows[stage] == {(2 * min(window, -(-size // (4 << stage))) - 1) ** 2}
      for stage in rows
    ):
      return size
  return published


def to_reference(
  variables: Mapping[str, Any], *, prefix: str = ""
) -> dict[str, np.ndarray]:
  """Converts variables to the reference's state dictionary.

  Args:
    variables: parameters and running statistics of a network.
    prefix: of each key; `model.` in the published files.

  Returns:
    Key -> array in PyTorch's layout; float32, counters int64.
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
  """Returns the shape of one of our variables in PyTorch's layout."""
  return _LAYOUTS[kind][0](np.broadcast_to(np.float32(0), shape)).shape


def from_torch(tensor: np.ndarray, kind: str) -> np.ndarray:
  """Converts a tensor from PyTorch's layout to ours."""
  return _LAYOUTS[kind][1](tensor)
