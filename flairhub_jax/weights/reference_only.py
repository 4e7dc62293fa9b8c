"""Parameters of the reference's files that its forward pass never uses.

They have no gradient there, and our networks do not have them. An imported run
stores them in `reference_only.safetensors`; export writes them back, or
initialises them as the reference does. `names.py` has their names.
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flairhub_jax.models import build, initialise, late, mid, upernet
from flairhub_jax.weights import files, reference


def describe(segmenter: Any, batch: Any) -> dict[str, Any]:
  """Describes the parameters that only the reference has.

  Args:
    segmenter: the network.
    batch: any batch, or its shapes (`build.input_shapes`).

  Returns:
    Collection -> module -> …, with `initialise.Described` as leaves.
  """
  params = build.variables_shape(segmenter, batch)["params"]
  strategy = segmenter.strategy
  with initialise.describing():
    trees = [
      _lateral(name, tree["lateral_0"]["conv"]["kernel"].shape[-1])
      for name, tree in params.items()
      # The uncertainty of a task is a parameter, not a module.
      if isinstance(tree, Mapping) and "lateral_0" in tree
    ]
    trees += [
      _utae_head(strategy, spec, batch["inputs"][spec.modality])
      for spec in segmenter.inputs
      if spec.is_series and not strategy.reads_logits(spec)
    ]
    if isinstance(strategy, late.SeriesFusion):
      trees.append(_linear("fusion", "_0", 1, 1))
      if len(segmenter.tasks) == 1:
        ((task, classes),) = segmenter.tasks
        trees.append(_linear(f"decoder_{task}", "", classes, classes))
    elif (
      isinstance(strategy, mid.MidFusion) and strategy.mixture is mid.MidConcat
    ):
      trees += _fusion_levels(segmenter, batch, params.get("fusion", {}))
  merged: dict[str, Any] = {}
  for tree in trees:
    for collection, modules in tree.items():
      for name, module in modules.items():
        merged.setdefault(collection, {}).setdefault(name, {}).update(module)
  return merged


def of_config(config: Any) -> dict[str, Any]:
  """Returns `describe` for the network of a configuration."""
  segmenter = build.build_segmenter(config)
  return describe(segmenter, build.input_shapes(config))


def _lateral(name, width):
  """The skip connection of smp's last UPerNet level, which has no input."""
  tree = _traced(upernet.ProjectionUnit(width), _shape((1, 1, 1, 1)))
  return {
    collection: {name: {"lateral_unused": unit}}
    for collection, unit in tree.items()
  }


def _utae_head(strategy, spec, x):
  """The U-TAE head of a series whose logits are not used."""
  described = _traced(
    strategy.series_encoder(has_head=True),
    _shape((*x.shape[:-1], len(spec.bands))),
    _shape(x.shape[:2], jnp.int32),
    _shape(x.shape[:2], jnp.bool_),
  )
  return {
    collection: {f"encoder_{spec.modality}": {"head": tree["head"]}}
    for collection, tree in described.items()
  }


def _traced(module, *inputs):
  """Traces the initialisation of a module."""
  return jax.eval_shape(
    lambda *args: module.init(*args, False), jax.random.key(0), *inputs
  )


def _shape(size, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(size, dtype)


def _linear(name, suffix, in_features, out_features):
  """A linear layer with PyTorch's default initialisation."""
  draw = initialise.torch_uniform(in_features)
  kernel = draw(None, (in_features, out_features))
  layer = {f"kernel{suffix}": kernel}
  layer[f"bias{suffix}"] = draw(None, (out_features,))
  return {"params": {name: layer}}


def _fusion_levels(segmenter, batch, own):
  """Fusion levels that a single modality or a ResNet's image level skips."""
  encode = functools.partial(
    segmenter.init_with_output, train=False, method="encode"
  )
  encoded, _ = jax.eval_shape(encode, jax.random.key(0), batch)
  levels = zip(
    *(
      encoded[spec.modality][1] if spec.is_series else encoded[spec.modality]
      for spec in segmenter.inputs
    ),
    strict=True,
  )
  for i, level in enumerate(levels):
    channels = [x.shape[-1] for x in level]
    if f"kernel_{i}" not in own:
      yield _linear("fusion", f"_{i}", sum(channels), channels[0])


def shape_of(described: Any) -> dict[str, Any]:
  """Converts `describe` to shapes for `reference.fit_reference`."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.value.shape, leaf.value.dtype),
    described,
    is_leaf=lambda leaf: isinstance(leaf, initialise.Described),
  )


def count(described: Any, *, with_fusion: bool = True) -> int:
  """Counts the parameters of `describe`, without running statistics."""
  return sum(
    leaf.size
    for name, module in described.get("params", {}).items()
    if with_fusion or name != "fusion"
    for leaf in jax.tree.leaves(module)
  )


def load(path: pathlib.Path, described: Any, *, seed: int) -> dict[str, Any]:
  """Reads the parameters of a run, or initialises them if it has no such file.

  Args:
    path: `reference_only.safetensors` of the run.
    described: from `describe`.
    seed: of the initialisation.

  Raises:
    InputError: the file cannot be read.
    InputErrors: the file does not fit the network.
  """
  if not path.exists():
    return initialise.draw(described, seed=seed)
  tensors, _ = files.read_tensors(path)
  return reference.from_reference(tensors, shape_of(described), where=path)


def save(path: pathlib.Path, variables: Any) -> None:
  """Writes the parameters, if there are any."""
  if tensors := reference.to_reference(variables):
    files.write_tensors(path, tensors, {})
