"""Image encoders pretrained by timm and torchvision.

A checkpoint is converted once to a file with our names (`import_encoder`); each
run then adapts it to its modality (`start_encoder`): to the number of channels,
and to features smaller than the attention windows.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from flairhub_jax import errors
from flairhub_jax.weights import names, prefixes, reference

# Any image modality, to look up the keys of its encoder.
_ANY = "AERIAL_RGBI"
_CHANNELS = 3
# Key of the encoder's name in the metadata of our files.
ENCODER = "encoder"
# Kernels of the first layer -> patch size, if stored as a matrix.
_STEMS = {"patch_embedding/projection": 4, "stem": 4, "stem_conv": None}

# Parameters of a classifier's head, and computed buffers.
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
# Indices of a sequence -> attributes, as in timm's `features_only` models.
_FLAT = re.compile(r"^(layers|stages|stem)\.(\d+)\.")


def import_encoder(
  tensors: Mapping[str, np.ndarray],
  variables_shape: Mapping[str, Any],
  *,
  where: object,
) -> dict[str, np.ndarray]:
  """Converts a classifier's checkpoint to an encoder with our names.

  Args:
    tensors: timm's or torchvision's state dictionary.
    variables_shape: of the encoder for three channels and an image so large
      that no window shrinks.
    where: name of the file in error messages.

  Returns:
    `collection/module/…/parameter` -> array; position bias tables have the
    window size of the file.

  Raises:
    InputErrors: all keys that are missing, unexpected or of another shape.
  """
  encoder = _timm_names(prefixes.strip_usual(tensors))
  has_counters = any(key.endswith("num_batches_tracked") for key in encoder)
  problems, values = [], {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(dict(variables_shape)):
    name = "/".join(part.key for part in path)
    key, kind = _timm_key(name)
    expected = reference.torch_shape(leaf.shape, kind)
    tensor = encoder.pop(key, None)
    if tensor is None and name.endswith("/count") and not has_counters:
      # PyTorch before 0.4.1 had no counter.
      tensor = np.zeros((), np.int64)
    if tensor is None:
      problems.append(f"{where}: {key}: expected {expected}, found nothing")
      continue
    if _is_table(name) and _is_square(tensor, expected[1]):
      expected = tensor.shape
    elif _without_ones(tensor.shape) == _without_ones(expected):
      # Meta's and timm's axes of size one differ.
      tensor = tensor.reshape(expected)
    if tensor.shape != expected:
      problems.append(
        f"{where}: {key}: expected {expected}, found {tensor.shape}"
      )
      continue
    values[name] = np.asarray(reference.from_torch(tensor, kind), leaf.dtype)
  unexpected = [
    f"{where}: {key}: expected no such key, found {np.shape(tensor)}"
    for key, tensor in encoder.items()
  ]
  if problems or unexpected:
    raise errors.InputErrors(errors.in_turn(problems, unexpected))
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
    encoder: from `import_encoder`.
    variables: of the whole network.
    module: name of the encoder in the network.
    where: name of the file in error messages.

  Returns:
    The variables, with those of `module` from `encoder`.

  Raises:
    InputErrors: the file has another kind of encoder.
  """
  remaining, problems = dict(encoder), []

  def fit(path, leaf):
    collection, *rest = (part.key for part in path)
    if rest[0] != module:
      return leaf
    name = "/".join([collection, *rest[1:]])
    tensor = remaining.pop(name, None)
    if tensor is None:
      problems.append(f"{where}: {name}: expected {leaf.shape}, found nothing")
      return leaf
    parent = "/".join(rest[1:-1])
    if parent in _STEMS and rest[-1] == "kernel":
      channels = _channels(leaf.shape, _STEMS[parent])
      tensor = _adapt_stem(tensor, channels, _STEMS[parent])
    if _is_table(name) and _is_square(tensor, leaf.shape[1]):
      tensor = resize_bias_table(tensor, leaf.shape[0])
    if tensor.shape != leaf.shape:
      problems.append(
        f"{where}: {name}: expected {leaf.shape}, found {tensor.shape}"
      )
      return leaf
    return np.asarray(tensor, leaf.dtype)

  result = jax.tree_util.tree_map_with_path(fit, dict(variables))
  unexpected = [f"{where}: {name}: expected no such name" for name in remaining]
  if problems or unexpected:
    raise errors.InputErrors(errors.in_turn(problems, unexpected))
  return result


def adapt_channels(
  kernel: Float[np.ndarray, "*k 3 out"], channels: int
) -> Float[np.ndarray, "*k channels out"]:
  """Adapts a kernel for three channels to another number, as timm does.

  A single channel gets the sum of the three; more channels repeat the three,
  scaled to the same sum.
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
  """Resizes a square position bias table, as timm does on loading.

  Bilinear interpolation on a geometric grid that is denser near the centre, so
  that the values of close neighbours are preserved. (The reference's own
  checkpoints are resized differently: `swin.resize_bias_table`.)
  """
  old, new = round(len(table) ** 0.5), round(rows**0.5)
  if old == new:
    return table
  matrix = _linear_matrix(_positions(old, new), new)
  square = table.reshape(old, old, -1).astype(np.float64)
  square = np.einsum("ph,qw,hwc->pqc", matrix, matrix, square)
  return square.reshape(rows, -1).astype(table.dtype)


def _positions(old, new):
  """Positions of the old rows relative to the centre, in new rows."""
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
  """Weights [new old] of linear interpolation at integer positions.

  Extrapolation is constant.
  """
  targets = np.arange(new) - new // 2
  columns = np.eye(len(positions))
  return np.stack([np.interp(targets, positions, c) for c in columns], axis=1)


def _timm_names(tensors):
  """Returns the encoder's tensors under the current names of timm."""
  result = {}
  is_meta = any(key.startswith("downsample_layers.") for key in tensors)
  for key, tensor in tensors.items():
    if _DROPPED.match(key):
      continue
    if is_meta:
      for pattern, replacement in _META:
        key = re.sub(pattern, replacement, key)
    result[_FLAT.sub(r"\1_\2.", key)] = tensor
  # Older files merge patches at the end of a stage, newer ones at the start.
  if "layers_0.downsample.reduction.weight" in result:
    result = {
      re.sub(
        r"layers_(\d+)\.downsample",
        lambda match: f"layers_{int(match[1]) + 1}.downsample",
        key,
      ): tensor
      for key, tensor in result.items()
    }
  return result


def _timm_key(name):
  """Returns timm's key of a variable of an encoder, and the kind of layout."""
  _, _, below = name.partition("/")
  key, kind = names.reference_key(f"encoder_{_ANY}/{below}")
  prefix = f"encoders.{_ANY}.seg_model."
  return key.removeprefix(prefix).removeprefix("model."), kind


def _is_table(name):
  return name.endswith("/bias_table")


def _is_square(table, heads):
  """Whether a bias table has all relative positions in a square window."""
  size = round(len(table) ** 0.5) if table.ndim == 2 else 0
  return size % 2 == 1 and table.shape == (size * size, heads)


def _without_ones(shape):
  return [size for size in shape if size != 1]


def _channels(shape, patch):
  return shape[-2] // (patch * patch) if patch else shape[-2]


def _adapt_stem(kernel, channels, patch):
  """`adapt_channels` for a convolution or a matrix of flattened patches."""
  if not patch:
    return adapt_channels(kernel, channels)
  square = kernel.reshape(patch, patch, -1, kernel.shape[-1])
  return adapt_channels(square, channels).reshape(-1, kernel.shape[-1])
