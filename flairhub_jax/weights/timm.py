"""Image encoders pretrained by timm and torchvision.

Imported once into a file of our own names (`import_encoder`); each training
run then fits it to its modalities (`start_encoder`): another number of
channels, and windows larger than the features.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from flairhub_jax import errors
from flairhub_jax.weights import names, prefixes, reference

# Any image modality: keys are looked up below its encoder.
_ANY = "AERIAL_RGBI"
_CHANNELS = 3
# Metadata of our files.
ENCODER = "encoder"
# Kernels that read the image -> size of their patch, if stored as matrices.
_STEMS = {"patch_embedding/projection": 4, "stem": 4, "stem_conv": None}

# Parameters of a classifier beyond its encoder, and computed buffers.
_DROPPED = re.compile(
  r"head\.|fc\.|norm\.|norm_pre\.|.*relative_position_index$|.*attn_mask$"
)
# Meta's names of ConvNeXt -> timm's.
_META = (
  (r"downsample_layers\.0\.", "stem_"),
  (r"downsample_layers\.(\d+)\.", r"stages_\1.downsample."),
  (r"stages\.(\d+)\.(\d+)\.", r"stages_\1.blocks.\2."),
  (r"dwconv", "conv_dw"),
  (r"pwconv", "mlp.fc"),
  (r"grn\.beta", "mlp.grn.bias"),
  (r"grn\.gamma", "mlp.grn.weight"),
)
# Indices of a sequence -> attributes, as where timm returns all features.
_FLAT = re.compile(r"^(layers|stages|stem)\.(\d+)\.")


def import_encoder(
  tensors: Mapping[str, np.ndarray],
  variables_shape: Mapping[str, Any],
  *,
  where: object,
) -> dict[str, np.ndarray]:
  """Turns a classifier's checkpoint into an encoder under our names.

  Args:
    tensors: timm's or torchvision's state dictionary.
    variables_shape: of the encoder for three channels and an image on which no
      window shrinks.
    where: name of the file in error messages.

  Returns:
    `collection/module/…/parameter` -> array; tables of relative positions
    have the window of the file.

  Raises:
    InputErrors: keys that are missing, left over or of another shape, all of
      them.
  """
  found = _timm_names(prefixes.strip_usual(tensors))
  has_counters = any(key.endswith("num_batches_tracked") for key in found)
  problems, values = [], {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(dict(variables_shape)):
    name = "/".join(part.key for part in path)
    key, kind = _timm_key(name)
    expected = reference.torch_shape(leaf.shape, kind)
    tensor = found.pop(key, None)
    if tensor is None and name.endswith("/count") and not has_counters:
      # Early versions of PyTorch had no counter.
      tensor = np.zeros((), np.int64)
    if tensor is None:
      problems.append(f"{where}: {key}: expected {expected}, found nothing")
      continue
    if _is_table(name) and _is_square(tensor, expected[1]):
      expected = tensor.shape
    elif _without_ones(tensor.shape) == _without_ones(expected):
      # Meta has other axes of size one than timm.
      tensor = tensor.reshape(expected)
    if tensor.shape != expected:
      problems.append(
        f"{where}: {key}: expected {expected}, found {tensor.shape}"
      )
      continue
    values[name] = np.asarray(reference.from_torch(tensor, kind), leaf.dtype)
  surplus = [
    f"{where}: {key}: expected no such key, found {np.shape(tensor)}"
    for key, tensor in found.items()
  ]
  if problems or surplus:
    raise errors.InputErrors(errors.in_turn(problems, surplus))
  return values


def start_encoder(
  encoder: Mapping[str, np.ndarray],
  variables: Mapping[str, Any],
  module: str,
  *,
  where: object,
) -> dict[str, Any]:
  """Replaces the variables of one image encoder.

  Args:
    encoder: result of `import_encoder`.
    variables: of the whole network.
    module: name of the encoder in it.
    where: name of the file in error messages.

  Returns:
    The variables, with those of `module` taken from `encoder`.

  Raises:
    InputErrors: it is an encoder of another kind.
  """
  left, problems = dict(encoder), []

  def fit(path, leaf):
    collection, *rest = (part.key for part in path)
    if rest[0] != module:
      return leaf
    name = "/".join([collection, *rest[1:]])
    tensor = left.pop(name, None)
    if tensor is None:
      problems.append(f"{where}: {name}: expected {leaf.shape}, found nothing")
      return leaf
    parent = "/".join(rest[1:-1])
    if parent in _STEMS and rest[-1] == "kernel":
      channels = _channels(leaf.shape, _STEMS[parent])
      tensor = _adapted(tensor, channels, _STEMS[parent])
    if _is_table(name) and _is_square(tensor, leaf.shape[1]):
      tensor = resize_bias_table(tensor, leaf.shape[0])
    if tensor.shape != leaf.shape:
      problems.append(
        f"{where}: {name}: expected {leaf.shape}, found {tensor.shape}"
      )
      return leaf
    return np.asarray(tensor, leaf.dtype)

  started = jax.tree_util.tree_map_with_path(fit, dict(variables))
  surplus = [f"{where}: {name}: expected no such name" for name in left]
  if problems or surplus:
    raise errors.InputErrors(errors.in_turn(problems, surplus))
  return started


def adapt_channels(
  kernel: Float[np.ndarray, "*k 3 out"], channels: int
) -> Float[np.ndarray, "*k channels out"]:
  """Fits a kernel for three channels to another number, as timm.

  One channel gets the sum of the three; more get them in turn, scaled so that
  the sum over all is unchanged.
  """
  if channels == _CHANNELS:
    return kernel
  if channels == 1:
    return kernel.sum(-2, keepdims=True)
  repeats = -(-channels // _CHANNELS)
  kernel = np.concatenate([kernel] * repeats, axis=-2)[..., :channels, :]
  return kernel * np.float32(_CHANNELS / channels)


def resize_bias_table(
  table: Float[np.ndarray, "n heads"], rows: int
) -> Float[np.ndarray, "rows heads"]:
  """Resizes a square table of relative positions, as timm does on loading.

  Bilinear between positions that lie closer together near the centre: a
  geometric series, so that neighbours keep their own values. (The reference
  resizes its own checkpoints otherwise: `swin.resize_bias_table`.)
  """
  old, new = round(len(table) ** 0.5), round(rows**0.5)
  if old == new:
    return table
  matrix = _linear_matrix(_positions(old, new), new)
  square = table.reshape(old, old, -1).astype(np.float64)
  square = np.einsum("ph,qw,hwc->pqc", matrix, matrix, square)
  return square.reshape(rows, -1).astype(table.dtype)


def _positions(old, new):
  """Positions of the old rows, in steps of the new ones from the centre."""
  low, high = 1.01, 1.5
  ratio = low
  while high - low > 1e-6:
    ratio = (low + high) / 2
    if (1 - ratio ** (old // 2)) / (1 - ratio) > new // 2:
      high = ratio
    else:
      low = ratio
  steps = np.cumsum(ratio ** np.arange(old // 2))
  return np.concatenate([-steps[::-1], [0.0], steps])


def _linear_matrix(positions, new):
  """Weights [new old] of the linear interpolation at whole numbers.

  Beyond the last position its value is constant.
  """
  targets = np.arange(new) - new // 2
  columns = np.eye(len(positions))
  return np.stack([np.interp(targets, positions, c) for c in columns], axis=1)


def _timm_names(tensors):
  """The encoder's tensors under timm's names of its parts."""
  found = {}
  is_meta = any(key.startswith("downsample_layers.") for key in tensors)
  for key, tensor in tensors.items():
    if _DROPPED.match(key):
      continue
    if is_meta:
      for pattern, replacement in _META:
        key = re.sub(pattern, replacement, key)
    found[_FLAT.sub(r"\1_\2.", key)] = tensor
  # Older files merge patches at the end of a stage, newer ones at the start.
  if "layers_0.downsample.reduction.weight" in found:
    found = {
      re.sub(
        r"layers_(\d+)\.downsample",
        lambda match: f"layers_{int(match[1]) + 1}.downsample",
        key,
      ): tensor
      for key, tensor in found.items()
    }
  return found


def _timm_key(name):
  """timm's key of one of our variables of an encoder, and its layout."""
  _, _, below = name.partition("/")
  key, kind = names.reference_key(f"encoder_{_ANY}/{below}")
  prefix = f"encoders.{_ANY}.seg_model."
  return key.removeprefix(prefix).removeprefix("model."), kind


def _is_table(name):
  return name.endswith("/bias_table")


def _is_square(table, heads):
  """Whether it is a table of all positions in a square window."""
  side = round(len(table) ** 0.5) if table.ndim == 2 else 0
  return side % 2 == 1 and table.shape == (side * side, heads)


def _without_ones(shape):
  return [side for side in shape if side != 1]


def _channels(shape, patch):
  return shape[-2] // (patch * patch) if patch else shape[-2]


def _adapted(kernel, channels, patch):
  """`adapt_channels` where patches are stored as rows of a matrix, too."""
  if not patch:
    return adapt_channels(kernel, channels)
  square = kernel.reshape(patch, patch, -1, kernel.shape[-1])
  return adapt_channels(square, channels).reshape(-1, kernel.shape[-1])
