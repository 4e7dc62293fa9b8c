"""Table of our variables and the reference's keys, module by module.

Each row has the name of our module (or parameter), the key in the reference's
state dictionary, and the layout of the kernel in PyTorch (a kind of
`reference.py`). A new part of the network adds its rows here.
"""

import re
from collections.abc import Mapping

from flairhub_jax.flair_hub import FLAIR_HUB

_LEAVES = {
  "kernel": "weight",
  "bias": "bias",
  "scale": "weight",
  "mean": "running_mean",
  "var": "running_var",
  "count": "num_batches_tracked",
}

_SERIES = "|".join(s.id for s in FLAIR_HUB.sensors.values() if s.is_series)
_IMAGES = "|".join(s.id for s in FLAIR_HUB.sensors.values() if not s.is_series)

# Our module, the reference's module, and the table of its rows.
_PARTS = (
  (rf"encoder_({_IMAGES})", r"encoders.\1.seg_model.model", "swin"),
  (rf"encoder_({_IMAGES})", r"encoders.\1.seg_model.model", "convnext"),
  (rf"encoder_({_IMAGES})", r"encoders.\1.seg_model", "resnet"),
  (rf"encoder_({_SERIES})", r"encoders.\1", "utae"),
  (r"decoder_([^/]+)", r"main_decoders.\1", "decoder"),
  (r"auxiliary_([^/]+)", r"aux_decoders.\1", "decoder"),
  (r"fusion", r"fusion_handler", "fusion"),
)
_BLOCK = r"stage_(\d+)_block_(\d+)/"
_LAYER = r"layer_(\d+)_block_(\d+)/"
_ROWS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
  "swin": (
    (r"patch_embedding/projection", r"patch_embed.proj", "patch4"),
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
  "convnext": (
    (r"stem", r"stem_0", "patch4"),
    (r"stem_norm", r"stem_1", ""),
    (r"merge_(\d+)_norm", r"stages_\1.downsample.0", ""),
    (r"merge_(\d+)", r"stages_\1.downsample.1", "patch2"),
    (_BLOCK + r"depthwise", r"stages_\1.blocks.\2.conv_dw", "depthwise"),
    (_BLOCK + r"norm", r"stages_\1.blocks.\2.norm", ""),
    (_BLOCK + r"linear_(\d)", r"stages_\1.blocks.\2.mlp.fc\3", "linear"),
    (_BLOCK + r"pointwise_(\d)", r"stages_\1.blocks.\2.mlp.fc\3", "pixel"),
    (_BLOCK + r"response_norm", r"stages_\1.blocks.\2.mlp.grn", ""),
  ),
  "resnet": (
    (r"stem_conv", r"conv1", "image"),
    (r"stem_conv_norm", r"bn1", ""),
    (_LAYER + r"conv_(\d)", r"layer\1.\2.conv\3", "image"),
    (_LAYER + r"norm_(\d)", r"layer\1.\2.bn\3", ""),
    (_LAYER + r"shortcut", r"layer\1.\2.downsample.0", "pixel"),
    (_LAYER + r"shortcut_norm", r"layer\1.\2.downsample.1", ""),
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
    (
      r"block_(\d+)/conv_(\d)",
      r"seg_model.decoder.blocks.\1.conv\2.0",
      "image",
    ),
    (r"block_(\d+)/norm_(\d)", r"seg_model.decoder.blocks.\1.conv\2.1", ""),
    (r"head_conv", r"seg_model.segmentation_head.0", "image"),
  ),
  "fusion": (
    (r"kernel_(\d+)", r"conv_f.\1.weight", "pixel"),
    (r"bias_(\d+)", r"conv_f.\1.bias", ""),
  ),
}


def reference_key(path: str) -> tuple[str, str]:
  """Looks up a variable in the table.

  Args:
    path: of the variable within its collection, joined by "/".

  Returns:
    The reference's key (without prefix) and the kind of layout.

  Raises:
    KeyError: the table has no matching row.
  """
  top, _, below = path.partition("/")
  for pattern, template, rows in _PARTS:
    match = re.fullmatch(pattern, top)
    if match is None:
      continue
    for row_pattern, row_template, kind in _ROWS[rows]:
      # A row matches a parameter, or the module of a parameter.
      module, _, leaf = below.rpartition("/")
      of_parameter = re.fullmatch(row_pattern, below)
      of_module = re.fullmatch(row_pattern, module) if leaf in _LEAVES else None
      row_match = of_parameter or of_module
      if row_match is None:
        continue
      parts = [
        match.expand(template),
        _sequence_key(row_match.expand(row_template)),
      ]
      if not of_parameter:
        parts.append(_LEAVES[leaf])
        kind = kind if leaf == "kernel" else ""
      return ".".join(part for part in parts if part), kind
  raise KeyError(path)


def _sequence_key(key):
  """Maps `conv2` or `norm2` to its index; a layer is conv, norm and ReLU."""
  match = re.fullmatch(r"(.*\.)(conv|norm)(\d+)", key)
  if match is None or ".conv." not in key:
    return key
  index = 3 * int(match[3]) + (match[2] == "norm")
  return f"{match[1]}{index}"
