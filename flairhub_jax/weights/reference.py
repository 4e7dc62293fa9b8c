"""From the reference's tensors to our variables, and back.

`names.py` has the reference's name of each variable. Loading is strict: a file
that does not fit is an error that lists every key.
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

# Class weights, which the reference stores with the network.
_CRITERION = "criterion."


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


@dataclasses.dataclass(frozen=True)
class Fitted:
  """Variables that came from the reference's tensors.

  Attributes:
    variables: of the structure of the network, as numpy arrays.
    reference_only: of the structure of `reference_only.describe`.
    notes: exceptions and changes, a line each.
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
  """Turns the reference's tensors into variables of a network.

  Args:
    tensors: its state dictionary, with or without the prefixes of wrappers
      (`prefixes.strip`); class weights (`criterion.…`) are left out.
    variables_shape: of `build.variables_shape`.
    reference_only_shape: of `reference_only.shape_of`.
    where: name of the file in error messages.
    resize_bias_tables: whether tables of relative positions of another window
      are resized bicubically, as the reference does, for other image sizes.
    allow: keys that it matches anywhere may be missing, left over or of another
      shape.
    start: draws both trees, for keys that are missing so; only called then.

  Raises:
    InputErrors: keys that are missing, left over or of another shape, all of
      them.
  """
  leaves, tree = jax.tree_util.tree_flatten_with_path(
    (dict(variables_shape), dict(reference_only_shape or {}))
  )
  named = [
    reference_key("/".join(part.key for part in path[2:])) for path, _ in leaves
  ]
  found, notes = prefixes.strip(tensors, {key for key, _ in named}, allow)
  problems, values, drawn = [], [], []
  for (_, leaf), (key, kind) in zip(leaves, named, strict=True):
    expected = torch_shape(leaf.shape, kind)
    tensor = found.pop(key, None)
    tensor = None if tensor is None else np.asarray(tensor)
    if resize_bias_tables and tensor is not None and key.endswith("bias_table"):
      old, tensor = tensor.shape, resize_bias_table(tensor, leaf.shape[0])
      if tensor.shape != old:
        notes.append(f"{key}: resized from {old} to {tensor.shape}")
    fault = _fault(tensor, expected, leaf.dtype)
    if fault is None:
      values.append(np.asarray(from_torch(tensor, kind), leaf.dtype))
    elif allow is not None and allow.search(key):
      notes.append(f"{key}: {fault}; drawn anew")
      drawn.append(len(values))
      values.append(None)
    else:
      problems.append(f"{where}: {key}: {fault}")
  surplus = _left_over(found, allow, where, notes)
  if problems or surplus:
    raise errors.InputErrors(errors.in_turn(problems, surplus))
  if drawn:
    own = jax.tree.leaves(start())
    for index in drawn:
      values[index] = np.asarray(own[index])
  variables, reference_only = jax.tree_util.tree_unflatten(tree, values)
  return Fitted(variables, reference_only, tuple(notes))


def _left_over(found, allow, where, notes):
  """Returns a fault per unknown key; adds a note for those allowed."""
  problems = []
  for key, tensor in found.items():
    if _CRITERION in key:
      continue
    fault = f"expected no such key, found {np.shape(tensor)}"
    if allow is not None and allow.search(key):
      notes.append(f"{key}: {fault}; left out")
    else:
      problems.append(f"{where}: {key}: {fault}")
  return problems


def _fault(tensor, expected, dtype):
  """Why a tensor does not fit; None if it does."""
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
  """Class weights, as the reference's files have them.

  Args:
    weights: task -> one weight per class.
    auxiliary: modalities that have a decoder of their own.
  """
  tensors = {}
  for task, values in weights.items():
    for loss in (task, *(f"aux_{modality}_{task}" for modality in auxiliary)):
      tensors[f"{_CRITERION}{loss}.weight"] = np.asarray(values, np.float32)
  return tensors


def fitting_side(
  tensors: Mapping[str, np.ndarray], modality: str, window: int, published: int
) -> int:
  """Side of the images for which a Swin's tables of positions were made.

  Windows shrink to maps that are smaller than them, and the tables with them.

  Args:
    tensors: the reference's state dictionary.
    modality: whose encoder.
    window: side of the encoder's windows before they shrink.
    published: side of the published patches, which is tried first.

  Returns:
    The side that needs no table resized; `published` if there is none.
  """
  pattern = re.compile(
    rf"(?:.*\.)?encoders\.{re.escape(modality)}\."
    r"seg_model\.model\.layers_(\d)\..*bias_table"
  )
  rows = {}
  for key, tensor in tensors.items():
    match = pattern.fullmatch(prefixes.unwrapped(key))
    if match and tensor.ndim == 2:
      rows.setdefault(int(match[1]), set()).add(len(tensor))
  last = math.isqrt(max(rows.get(3, {0})))
  for side in (published, 16 * (last + 1)):
    if rows and all(
      rows[stage] == {(2 * min(window, -(-side // (4 << stage))) - 1) ** 2}
      for stage in rows
    ):
      return side
  return published


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


def from_torch(tensor: np.ndarray, kind: str) -> np.ndarray:
  """A tensor of PyTorch's layout in ours."""
  return _LAYOUTS[kind][1](tensor)
