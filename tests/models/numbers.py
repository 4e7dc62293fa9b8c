"""Small networks whose outputs are known: weights and inputs by rule.

Weights and inputs are functions of names alone, so that the numbers in
`numbers.json` can be checked on any machine. The numbers were computed by the
reference (PyTorch) from the same weights.
"""

import zlib
from typing import Any

import jax
import numpy as np

from flairhub_jax.configs import base
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build

AERIAL, SPOT, S2 = "AERIAL_RGBI", "SPOT_RGBI", "SENTINEL2_TS"
S1 = "SENTINEL1-ASC_TS"
COSIA, LPIS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"
_SWIN = "swin_tiny_patch4_window7_224"


def _network(encoder, decoder, sizes, **settings):
  return dict(
    encoder=encoder,
    decoder=decoder,
    sizes=sizes,
    tasks=settings.pop("tasks", (COSIA,)),
    auxiliary=settings.pop("auxiliary", ()),
    side=settings.pop("side", 64),
    utae=dict(
      encoder_widths=(16, 16, 32),
      decoder_widths=(16, 16, 32),
      head_widths=(16, 19),
      num_heads=4,
      attention_width=32,
    )
    | settings,
  )


CASES = {
  "swin-upernet": _network(_SWIN, "upernet", {AERIAL: 64, SPOT: 32}),
  "convnext-unet": _network("convnextv2_atto", "unet", {AERIAL: 64}),
  "resnet18-upernet": _network(
    "resnet18", "upernet", {AERIAL: 64, S2: 10}, auxiliary=(AERIAL, S2)
  ),
  "resnet50-unet": _network("resnet50", "unet", {AERIAL: 64}),
  "utae-att_group-group-reflect": _network(
    _SWIN, "upernet", {S2: 10, S1: 10}, tasks=(COSIA, LPIS), auxiliary=(S1,)
  ),
  "utae-att_mean-batch-zeros": _network(
    _SWIN,
    "upernet",
    {S2: 10},
    aggregation="att_mean",
    encoder_norm="batch",
    padding_mode="zeros",
  ),
  "utae-mean-instance-replicate": _network(
    _SWIN,
    "upernet",
    {S2: 10},
    aggregation="mean",
    encoder_norm="instance",
    padding_mode="replicate",
  ),
  "utae-strided-circular": _network(
    _SWIN,
    "upernet",
    {S2: 16},
    kernel=4,
    stride=2,
    padding_mode="circular",
  ),
}


def config_of(case: dict[str, Any]) -> Any:
  """The configuration of a case; inputs go in as they are."""
  config = base.get_config()
  config.data.modalities = tuple(case["sizes"])
  config.data.tasks = case["tasks"]
  config.data.normalisation = "without"
  config.model.encoder = case["encoder"]
  config.model.decoder = case["decoder"]
  config.model.auxiliary = case["auxiliary"]
  config.model.utae.update(case["utae"])
  config.model.utae.count_padding = True
  return config


def batch_of(case: dict[str, Any]) -> dict[str, Any]:
  """Two samples; the series of the second is one date shorter."""
  batch: dict[str, Any] = {"inputs": {}, "dates": {}, "valid": {}}
  for modality, side in case["sizes"].items():
    row = FLAIR_HUB.sensors[modality]
    rng = _rng(f"{modality} {side}")
    if row.is_series:
      x = rng.uniform(1, 3000, (2, 4, side, side, len(row.bands)))
      dates = np.sort(rng.integers(-120, 220, (2, 4)))
      valid = np.array([[True] * 4, [True] * 3 + [False]])
      x, dates = x * valid[..., None, None, None], dates * valid
      batch["dates"][modality] = dates.astype(np.int32)
      batch["valid"][modality] = valid
    else:
      x = rng.standard_normal((2, side, side, len(row.bands)))
    batch["inputs"][modality] = x.astype(np.float32)
  return batch


def variables_of(shapes: Any) -> Any:
  """Values of a network's variables, by their names."""
  return jax.tree_util.tree_map_with_path(_value, shapes)


def _value(path, leaf):
  name = "/".join(part.key for part in path)
  if leaf.dtype == np.int32:
    return np.zeros(leaf.shape, np.int32)
  n = _rng(name).standard_normal(leaf.shape)
  kind = path[-1].key
  if kind == "var":
    n = 0.5 + np.abs(n)
  elif kind == "scale":
    n = 1 + 0.1 * n
  elif kind == "bias_table":
    n = 0.5 * n
  elif leaf.ndim > 1:
    n = n / np.sqrt(leaf.size / leaf.shape[-1])
  else:
    n = 0.1 * n
  return n.astype(np.float32)


def _rng(name):
  return np.random.default_rng(zlib.crc32(name.encode()))


def network_of(case: dict[str, Any]):
  """The network, its variables, the batch."""
  batch = batch_of(case)
  segmenter = build.build_segmenter(
    config_of(case), output_size=(case["side"], case["side"])
  )
  variables = variables_of(build.variables_shape(segmenter, batch))
  return segmenter, variables, batch


def describe(x: np.ndarray) -> dict[str, Any]:
  """A map [b h w k] in few numbers: its spread and 48 of its values."""
  flat = np.asarray(x, np.float64).ravel()
  places = np.linspace(0, flat.size - 1, 48).astype(int)
  return {"std": float(flat.std()), "values": flat[places].tolist()}


def describe_outputs(outputs: Any) -> dict[str, Any]:
  """`describe` of every logits map, by task, or modality and task."""
  actual = {task: describe(x) for task, x in outputs["logits"].items()}
  for modality, tasks in outputs["aux"].items():
    actual |= {f"{modality} {task}": describe(x) for task, x in tasks.items()}
  return actual
