"""The reference's names and layouts for our variables, both ways.

A table says, module by module, what the reference calls it and how PyTorch
lays its kernel out. Nothing is guessed and nothing is skipped: a file that
does not fit is an error that lists every key.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from flairhub_jax import errors, modalities

_PREFIX = "model."
_IGNORED = "criterion."
_COUNTER = "num_batches_tracked"
_PATCH = 4

# Ours -> PyTorch's, for each kind of kernel, and back.
_TO_TORCH = {
  "linear": lambda x: x.T,
  "pixel": lambda x: x.T[:, :, None, None],
  "line": lambda x: x.T[:, :, None],
  "image": lambda x: x.transpose(3, 2, 0, 1),
  "transposed": lambda x: x.transpose(2, 3, 0, 1),
  "patch": lambda x: x.reshape(_PATCH, _PATCH, -1, x.shape[-1]).transpose(
    3, 2, 0, 1
  ),
  "": lambda x: x,
}
_FROM_TORCH = {
  "linear": lambda x: x.T,
  "pixel": lambda x: x[:, :, 0, 0].T,
  "line": lambda x: x[:, :, 0].T,
  "image": lambda x: x.transpose(2, 3, 1, 0),
  "transposed": lambda x: x.transpose(2, 3, 0, 1),
  "patch": lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),
  "": lambda x: x,
}
_LEAVES = {
  "kernel": "weight",
  "bias": "bias",
  "scale": "weight",
  "mean": "running_mean",
  "var": "running_var",
}

_SERIES = "|".join(m.id for m in modalities.MODALITIES.values() if m.is_series)
_IMAGES = "|".join(
  m.id for m in modalities.MODALITIES.values() if not m.is_series
)

# Our module (or parameter) -> the reference's, kind of its kernel.
_PARTS = (
  (rf"encoder_({_IMAGES})", r"encoders.\1.seg_model.model", "swin"),
  (rf"encoder_({_SERIES})", r"encoders.\1", "utae"),
  (r"decoder_([^/]+)", r"main_decoders.\1", "decoder"),
  (r"auxiliary_([^/]+)", r"aux_decoders.\1", "decoder"),
  (r"fusion", r"fusion_handler", "fusion"),
)
_BLOCK = r"stage_(\d+)_block_(\d+)/"
_ROWS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
  "swin": (
    (r"patch_embedding/projection", r"patch_embed.proj", "patch"),
    (r"patch_embedding/norm", r"patch_embed.norm", ""),
    (r"merge_(\d+)/norm", r"layers_\1.downsample.norm", ""),
    (r"merge_(\d+)/reduction", r"layers_\1.downsample.reduction", "linear"),
    (_BLOCK + r"(norm\d)", r"layers_\1.blocks.\2.\3", ""),
    (
      _BLOCK + r"attention/bias_table",
      r"layers_\1.blocks.\2.attn.relative_position_bias_table",
      "",
    ),
    (_BLOCK + r"attention/qkv", r"layers_\1.blocks.\2.attn.qkv", "linear"),
    (
      _BLOCK + r"attention/projection",
      r"layers_\1.blocks.\2.attn.proj",
      "linear",
    ),
    (_BLOCK + r"expand", r"layers_\1.blocks.\2.mlp.fc1", "linear"),
    (_BLOCK + r"contract", r"layers_\1.blocks.\2.mlp.fc2", "linear"),
  ),
  "utae": (
    (r"in_conv/(conv|norm)_(\d+)", r"in_conv.conv.conv.\1\2", "image"),
    (r"head/(conv|norm)_(\d+)", r"out_conv.conv.conv.\1\2", "image"),
    (
      r"(down|up)_(\d+)/(down|conv1|conv2)/(conv|norm)_(\d+)",
      r"\1_blocks.\2.\3.conv.\4\5",
      "image",
    ),
    (r"up_(\d+)/skip", r"up_blocks.\1.skip_conv.0", "pixel"),
    (r"up_(\d+)/skip_norm", r"up_blocks.\1.skip_conv.1", ""),
    (r"up_(\d+)/up", r"up_blocks.\1.up.0", "transposed"),
    (r"up_(\d+)/up_norm", r"up_blocks.\1.up.1", ""),
    (r"temporal/((?:in|out)_norm)", r"temporal_encoder.\1", ""),
    (r"temporal/in_projection", r"temporal_encoder.inconv", "line"),
    (r"temporal/query", r"temporal_encoder.attention_heads.Q", ""),
    (
      r"temporal/key_kernel",
      r"temporal_encoder.attention_heads.fc1_k.weight",
      "linear",
    ),
    (
      r"temporal/key_bias",
      r"temporal_encoder.attention_heads.fc1_k.bias",
      "",
    ),
    (r"temporal/mlp", r"temporal_encoder.mlp.0", "linear"),
    (r"temporal/mlp_norm", r"temporal_encoder.mlp.1", ""),
  ),
  "decoder": (
    (r"", r"", "pixel"),
    (
      r"pyramid_pooling/kernel",
      r"seg_model.decoder.psp.out_conv.0.weight",
      "pixel",
    ),
    (r"pyramid_pooling/norm", r"seg_model.decoder.psp.out_conv.1", ""),
    *(
      row
      for i, size in enumerate((1, 2, 3, 6))
      for row in (
        (
          rf"pyramid_pooling/pool_{size}/conv",
          rf"seg_model.decoder.psp.blocks.{i}.1.0",
          "pixel",
        ),
        (
          rf"pyramid_pooling/pool_{size}/norm",
          rf"seg_model.decoder.psp.blocks.{i}.1.1",
          "",
        ),
      )
    ),
    (
      r"lateral_(\d+)/conv",
      r"seg_model.decoder.fpn_stages.\1.skip_conv.0",
      "pixel",
    ),
    (
      r"lateral_(\d+)/norm",
      r"seg_model.decoder.fpn_stages.\1.skip_conv.1",
      "",
    ),
    (
      r"lateral_unused/conv",
      r"seg_model.decoder.fpn_stages.4.skip_conv.0",
      "pixel",
    ),
    (
      r"lateral_unused/norm",
      r"seg_model.decoder.fpn_stages.4.skip_conv.1",
      "",
    ),
    (
      r"bottleneck_kernel",
      r"seg_model.decoder.fpn_bottleneck.0.weight",
      "image",
    ),
    (r"bottleneck_norm", r"seg_model.decoder.fpn_bottleneck.1", ""),
    (r"head", r"seg_model.segmentation_head.0", "pixel"),
  ),
  "fusion": (
    (r"kernel_(\d+)", r"conv_f.\1.weight", "pixel"),
    (r"bias_(\d+)", r"conv_f.\1.bias", ""),
  ),
}


def reference_key(path: str) -> tuple[str, str]:
  """Looks a variable up in the table.

  Args:
    path: its names below the collection, joined by "/".

  Returns:
    The reference's key (without prefix) and the kind of its layout.

  Raises:
    KeyError: the table has no row for it.
  """
  top, _, below = path.partition("/")
  for pattern, template, rows in _PARTS:
    match = re.fullmatch(pattern, top)
    if match is None:
      continue
    for row_pattern, row_template, kind in _ROWS[rows]:
      # A row names a parameter, or the module that a parameter lies in.
      module, _, leaf = below.rpartition("/")
      whole = re.fullmatch(row_pattern, below)
      inner = re.fullmatch(row_pattern, module) if leaf in _LEAVES else None
      found = whole or inner
      if found is None:
        continue
      parts = [match.expand(template), _position(found.expand(row_template))]
      if not whole:
        parts.append(_LEAVES[leaf])
        kind = kind if leaf == "kernel" else ""
      return ".".join(part for part in parts if part), kind
  raise KeyError(path)


def _position(key):
  """Ends such as `conv2`, `norm2` as places in a sequence of three a layer."""
  match = re.fullmatch(r"(.*\.)(conv|norm)(\d+)", key)
  if match is None or ".conv." not in key:
    return key
  place = 3 * int(match[3]) + (match[2] == "norm")
  return f"{match[1]}{place}"


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
  found = {k: v for k, v in found.items() if not k.endswith(_COUNTER)}
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
    values.append(np.asarray(_FROM_TORCH[kind](tensor), leaf.dtype))
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
    Key -> array, in PyTorch's layout; float32, counters int64 (zero: with a
    fixed momentum PyTorch does not read them).
  """
  tensors = {}
  leaves, _ = jax.tree_util.tree_flatten_with_path(dict(variables))
  for path, leaf in leaves:
    key, kind = reference_key("/".join(part.key for part in path[1:]))
    value = _TO_TORCH[kind](np.asarray(leaf, np.float32))
    tensors[prefix + key] = np.ascontiguousarray(value).reshape(value.shape)
    if key.endswith("running_var"):
      counter = key.removesuffix("running_var") + _COUNTER
      tensors[prefix + counter] = np.zeros((), np.int64)
  return tensors


def torch_shape(shape: tuple[int, ...], kind: str) -> tuple[int, ...]:
  """Shape that a variable of ours has in PyTorch's layout."""
  return _TO_TORCH[kind](np.broadcast_to(np.float32(0), shape)).shape


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
