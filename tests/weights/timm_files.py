"""ImageNet classifiers under the names of timm, torchvision and Meta."""

import numpy as np

SWIN = "swin_tiny_patch4_window7_224"


def _norm(name, width):
  return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name, width):
  running = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
  return _norm(name, width) | running | {f"{name}.num_batches_tracked": ()}


def _dense(name, out, width, *kernel):
  return {f"{name}.weight": (out, width, *kernel), f"{name}.bias": (out,)}


def swin(window=7, *, is_old=False):
  """Swin-T. Older files merge patches at the end of a stage."""
  shapes = _dense("patch_embed.proj", 96, 3, 4, 4)
  shapes |= _norm("patch_embed.norm", 96)
  for stage, (depth, heads) in enumerate(
    zip((2, 2, 6, 2), (3, 6, 12, 24), strict=True)
  ):
    width = 96 << stage
    if stage:
      name = f"layers.{stage - is_old}.downsample"
      shapes |= _norm(f"{name}.norm", 2 * width)
      shapes |= {f"{name}.reduction.weight": (width, 2 * width)}
    for i in range(depth):
      block = f"layers.{stage}.blocks.{i}"
      rows = (2 * window - 1) ** 2
      shapes |= _norm(f"{block}.norm1", width) | _norm(f"{block}.norm2", width)
      shapes |= {
        f"{block}.attn.relative_position_bias_table": (rows, heads),
      }
      shapes |= _dense(f"{block}.attn.qkv", 3 * width, width)
      shapes |= _dense(f"{block}.attn.proj", width, width)
      shapes |= _dense(f"{block}.mlp.fc1", 4 * width, width)
      shapes |= _dense(f"{block}.mlp.fc2", width, 4 * width)
      if is_old:
        shapes[f"{block}.attn.relative_position_index"] = (49, 49)
        shapes[f"{block}.attn_mask"] = (64, 49, 49)
  shapes |= _norm("norm", 768)
  return shapes | _dense("head" if is_old else "head.fc", 1000, 768)


def convnext(widths, depths, *, as_images):
  """ConvNeXt V2, with kernels of the perceptron as 1x1 convolutions or not."""
  ones = (1, 1) if as_images else ()
  shapes = _dense("stem.0", widths[0], 3, 4, 4) | _norm("stem.1", widths[0])
  for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
    if stage:
      name, before = f"stages.{stage}.downsample", widths[stage - 1]
      shapes |= _norm(f"{name}.0", before)
      shapes |= _dense(f"{name}.1", width, before, 2, 2)
    for i in range(depth):
      block = f"stages.{stage}.blocks.{i}"
      shapes |= _dense(f"{block}.conv_dw", width, 1, 7, 7)
      shapes |= _norm(f"{block}.norm", width)
      shapes |= _dense(f"{block}.mlp.fc1", 4 * width, width, *ones)
      shapes |= _norm(f"{block}.mlp.grn", 4 * width)
      shapes |= _dense(f"{block}.mlp.fc2", width, 4 * width, *ones)
  shapes |= _norm("head.norm", widths[-1])
  return shapes | _dense("head.fc", 1000, widths[-1])


def atto():
  return convnext((40, 80, 160, 320), (2, 2, 6, 2), as_images=True)


def tiny():
  return convnext((96, 192, 384, 768), (3, 3, 9, 3), as_images=False)


def resnet18():
  """ResNet-18, as timm and torchvision name it."""
  shapes = {"conv1.weight": (64, 3, 7, 7)} | _batch_norm("bn1", 64)
  before = 64
  for stage, width in enumerate((64, 128, 256, 512), start=1):
    for i in range(2):
      block = f"layer{stage}.{i}"
      shapes[f"{block}.conv1.weight"] = (width, before, 3, 3)
      shapes[f"{block}.conv2.weight"] = (width, width, 3, 3)
      shapes |= _batch_norm(f"{block}.bn1", width)
      shapes |= _batch_norm(f"{block}.bn2", width)
      if before != width:
        shapes[f"{block}.downsample.0.weight"] = (width, before, 1, 1)
        shapes |= _batch_norm(f"{block}.downsample.1", width)
      before = width
  return shapes | _dense("fc", 1000, 512)


def draw(shapes, seed=0):
  """Random tensors of these shapes."""
  rng = np.random.default_rng(seed)
  return {
    key: np.asarray(rng.integers(1, 10**6), np.int64)
    if key.endswith("num_batches_tracked")
    else rng.random(shape, np.float32)
    for key, shape in shapes.items()
  }


def under_metas_names(tensors):
  """ConvNeXt as its authors named and shaped it."""
  actual = {}
  for key, tensor in tensors.items():
    key = key.replace("stem.", "downsample_layers.0.")
    if ".downsample." in key:
      key = key.replace("stages.", "downsample_layers.")
      key = key.replace(".downsample.", ".")
    key = key.replace(".blocks.", ".")
    if ".grn." in key:
      key = key.replace("mlp.grn.weight", "grn.gamma")
      key = key.replace("mlp.grn.bias", "grn.beta")
      tensor = tensor.reshape(1, 1, 1, -1)
    elif ".mlp.fc" in key:
      key = key.replace("mlp.fc", "pwconv")
      tensor = tensor.reshape(tensor.shape[:2])
    key = key.replace("conv_dw", "dwconv")
    actual[key.replace("head.fc", "head").replace("head.norm", "norm")] = tensor
  return actual
