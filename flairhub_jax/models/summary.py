"""What a network consists of: parameters, operations, memory."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flairhub_jax.models import build


@dataclasses.dataclass(frozen=True)
class Part:
  """One module of a network.

  Attributes:
    name: modality, or modality and task, or task.
    architecture: as in the configuration.
    role: "encoder", "fusion", "auxiliary decoder" or "decoder".
    num_parameters: numbers in it.
    flops: operations of a forward pass over one patch, as XLA counts them; 0
      where it has nothing to do.
  """

  name: str
  architecture: str
  role: str
  num_parameters: int
  flops: float


@dataclasses.dataclass(frozen=True)
class Summary:
  """A network's parts and its memory.

  Attributes:
    parts: encoders, fusion, auxiliary decoders, decoders.
    num_dates: length that the time series were counted with.
    state_bytes: parameters, gradients and AdamW's moments, float32.
    activation_bytes: what a training step keeps of one patch for its
      backward pass, before XLA merges or recomputes any of it.
  """

  parts: tuple[Part, ...]
  num_dates: int
  state_bytes: int
  activation_bytes: int

  @property
  def num_parameters(self) -> int:
    """All of a file, unused layers included."""
    return sum(part.num_parameters for part in self.parts)

  @property
  def num_parameters_without_fusion(self) -> int:
    """What the reference prints and publishes."""
    parts = [part for part in self.parts if part.role != "fusion"]
    return sum(part.num_parameters for part in parts)

  @property
  def flops(self) -> float:
    """Of a forward pass over one patch, without auxiliary decoders."""
    parts = [p for p in self.parts if p.role != "auxiliary decoder"]
    return sum(part.flops for part in parts)


def summarise(config: Any, *, num_dates: int) -> Summary:
  """Counts a network without computing anything.

  Args:
    config: its configuration; sizes are those of `config.inputs`.
    num_dates: length of the time series.

  Raises:
    InputError: the configuration names what does not exist.
  """
  side = build.output_side(config)
  segmenter = build.build_segmenter(config, output_size=(side, side))
  batch = build.input_shapes(config, num_dates=num_dates)
  variables = build.variables_shape(segmenter, batch)
  params = variables["params"]
  maps, parts = {}, []
  for source in segmenter.sources:
    modality = source.modality
    name = f"encoder_{modality}"
    x = batch["inputs"][modality]
    x = jax.ShapeDtypeStruct((*x.shape[:-1], len(source.bands)), jnp.float32)
    if source.is_series:
      module = segmenter.series_encoder()
      inputs = x, batch["dates"][modality], batch["valid"][modality], False
    else:
      module, inputs = segmenter.image_encoder(), (x, False)
    output, flops = _trace(module, _below(variables, name), *inputs)
    maps[modality] = output[1] if source.is_series else output
    architecture = "utae" if source.is_series else config.model.encoder
    parts.append(
      Part(modality, architecture, "encoder", _count(params[name]), flops)
    )
  has_image = not all(source.is_series for source in segmenter.sources)
  flops = 0.0
  if has_image and len(maps) > 1:
    _, flops = _trace(segmenter.fusion(), _below(variables, "fusion"), maps, {})
  parts.append(
    Part("", config.fusion.kind, "fusion", _count(params["fusion"]), flops)
  )
  parts += _decoders(segmenter, config, variables, maps, has_image)
  return Summary(
    parts=tuple(parts),
    num_dates=num_dates,
    state_bytes=4 * _bytes(params),
    activation_bytes=_kept_bytes(segmenter, variables, batch) - _bytes(params),
  )


def _decoders(segmenter, config, variables, maps, has_image):
  """Auxiliary decoders, then those of the tasks."""
  first = segmenter.sources[0].modality
  rows = [
    (f"auxiliary_{modality}__{task}", f"{modality} {task}", modality, classes)
    for modality in segmenter.auxiliary
    for task, classes in segmenter.tasks
  ]
  rows += [
    (f"decoder_{task}", task, first, classes)
    for task, classes in segmenter.tasks
  ]
  series = [s.modality for s in segmenter.sources if s.is_series]
  parts = []
  for name, title, modality, classes in rows:
    tree, flops, architecture = variables["params"][name], 0.0, "1x1"
    if has_image and modality not in series:
      architecture = config.model.decoder
      decoder = segmenter.decoder(num_classes=classes)
      _, flops = _trace(decoder, _below(variables, name), maps[modality], False)
    is_main = name.startswith("decoder_")
    role = "decoder" if is_main else "auxiliary decoder"
    parts.append(Part(title, architecture, role, _count(tree), flops))
  return parts


def _below(variables, name):
  """The part of each collection that belongs to a module."""
  return {key: tree[name] for key, tree in variables.items() if name in tree}


def _trace(module: nn.Module, variables: Mapping[str, Any], *inputs: Any):
  """Shapes of a module's outputs, and its operations."""
  arrays = [x for x in inputs if not isinstance(x, bool)]
  flags = [x for x in inputs if isinstance(x, bool)]
  forward = functools.partial(_forward, module, flags)
  lowered = jax.jit(forward).lower(variables, *arrays)
  # XLA counts on each of its platforms; some give one analysis per device.
  costs = lowered.cost_analysis() or {}
  return lowered.out_info, float(costs.get("flops", 0.0))


def _forward(module, flags, variables, *arrays):
  return module.apply(variables, *arrays, *flags)


def _count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes(tree):
  leaves = jax.tree.leaves(tree)
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)


def _kept_bytes(segmenter, variables, batch):
  """Bytes that a training step's forward pass leaves for its backward."""

  def backward(variables, batch, key):
    def forward(params):
      outputs, _ = segmenter.apply(
        variables | {"params": params},
        batch,
        train=True,
        rngs={"dropout": key},
        mutable=["batch_stats"],
      )
      return outputs

    return jax.vjp(forward, variables["params"])[1]

  key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
  return _bytes(jax.eval_shape(backward, variables, batch, key))
