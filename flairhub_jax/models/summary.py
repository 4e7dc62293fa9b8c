"""Summary of a network: parameters, FLOPs and memory of its parts."""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from flairhub_jax.models import build, flop_count, layers, utae


@dataclasses.dataclass(frozen=True)
class Part:
  """One module of a network.

  Attributes:
    name: modality, or modality and task, or task.
    architecture: as in the configuration.
    role: "encoder", "fusion", "auxiliary decoder" or "decoder".
    num_parameters: number of parameters.
    flops: of a forward pass over one patch (`flop_count.count`).
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
    num_dates: series -> number of dates in the counts.
    state_bytes: parameters, gradients and AdamW's moments, float32.
    activation_bytes: activations of one patch that a training step stores
      for its backward pass, before XLA merges or recomputes any.
  """

  parts: tuple[Part, ...]
  num_dates: Mapping[str, int]
  state_bytes: int
  activation_bytes: int

  @property
  def num_parameters(self) -> int:
    """All parameters of the network."""
    return sum(part.num_parameters for part in self.parts)

  @property
  def num_parameters_without_fusion(self) -> int:
    """Number of parameters of encoders and decoders."""
    parts = [part for part in self.parts if part.role != "fusion"]
    return sum(part.num_parameters for part in parts)

  @property
  def flops(self) -> float:
    """Of a forward pass over one patch, without auxiliary decoders."""
    parts = [p for p in self.parts if p.role != "auxiliary decoder"]
    return sum(part.flops for part in parts)


def summarise(config: Any, *, num_dates: int | None = None) -> Summary:
  """Summarises a network without running it.

  Args:
    config: its configuration; sizes are those of `config.inputs`.
    num_dates: length of the time series; None: as in `config.inputs`.

  Raises:
    InputError: the configuration has an unknown name.
  """
  segmenter = build.build_segmenter(config)
  batch = build.input_shapes(config, num_dates=num_dates)
  variables = build.variables_shape(segmenter, batch)
  params = variables["params"]
  calls = _calls(segmenter, variables, batch)
  parts = []
  sensors = list(config.schema.sensors)
  # Parameters without a call are learned task weights, part of the loss.
  names = sorted(params.keys() & calls.keys(), key=lambda n: _order(n, sensors))
  for name in names:
    prefix, _, owner = name.partition("_")
    module, inputs = calls[name]
    below = {key: tree[name] for key, tree in variables.items() if name in tree}
    architecture = {
      "encoder": config.model.encoder,
      "decoder": config.model.decoder,
      "auxiliary": config.model.decoder,
    }.get(prefix, config.fusion.kind)
    if isinstance(module, utae.UTAE):
      architecture = "utae"
    elif isinstance(module, layers.Dense):
      architecture = "1x1"
    parts.append(
      Part(
        name=owner.replace("__", " "),
        architecture=architecture,
        role=_ROLES[prefix],
        num_parameters=_count(params[name]),
        flops=_flops(module, below, inputs),
      )
    )
  return Summary(
    parts=tuple(parts),
    num_dates={name: x.shape[1] for name, x in batch["dates"].items()},
    state_bytes=4 * _bytes(params),
    activation_bytes=_activation_bytes(segmenter, variables, batch)
    - _bytes(params),
  )


_ROLES = {
  "stack": "fusion",
  "encoder": "encoder",
  "fusion": "fusion",
  "auxiliary": "auxiliary decoder",
  "decoder": "decoder",
  "mix": "fusion",
}


def _order(name, sensors):
  """Sort key: by role, then in the order of the sensors."""
  prefix, _, owner = name.partition("_")
  sensor = owner.partition("__")[0]
  index = sensors.index(sensor) if sensor in sensors else len(sensors)
  return list(_ROLES).index(prefix), index, name


def _calls(segmenter, variables, batch):
  """Each part of a network with the shapes of its arguments."""
  calls: dict[str, tuple[nn.Module, Any]] = {}

  def record(method, args, kwargs, context):
    path = context.module.path
    if len(path) == 1 and context.method_name == "__call__":
      shapes = jax.tree.map(
        lambda x: (
          jax.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "shape") else x
        ),
        # jax.tree.map sorts plain dictionaries by key.
        [OrderedDict(x) if isinstance(x, Mapping) else x for x in args],
      )
      calls.setdefault(path[0], (context.module.clone(parent=None), shapes))
    return method(*args, **kwargs)

  with nn.intercept_methods(record):
    jax.eval_shape(segmenter.apply, variables, batch)
  return calls


def _flops(module: nn.Module, variables: Any, inputs: Any) -> float:
  """FLOPs of one part."""
  leaves, tree = jax.tree.flatten(inputs)
  is_array = [isinstance(x, jax.ShapeDtypeStruct) for x in leaves]
  arrays = [x for x, is_one in zip(leaves, is_array, strict=True) if is_one]

  def forward(variables, arrays):
    rest = iter(arrays)
    filled = [
      next(rest) if is_one else x
      for x, is_one in zip(leaves, is_array, strict=True)
    ]
    return module.apply(variables, *jax.tree.unflatten(tree, filled))

  return flop_count.count(forward, variables, arrays)


def _count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes(tree):
  leaves = jax.tree.leaves(tree)
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)


def _activation_bytes(segmenter, variables, batch):
  """Bytes that the forward pass of training stores for its backward pass."""

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
