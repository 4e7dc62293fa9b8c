"""A trained network for use in notebooks and scripts."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flairhub_jax import run_directory
from flairhub_jax.errors import InputError
from flairhub_jax.inference import trained
from flairhub_jax.models import build, fusion

_BANDS = ("stored", "network")


class Model:
  """A network with its weights.

  Attributes:
    config: configuration of the run.
    num_parameters: number of parameters.
    variables: parameters and running statistics.
  """

  def __init__(self, config: Any, variables: Mapping[str, Any]):
    """Stores the weights; `apply` builds the network for each batch shape."""
    self.config = config
    self.variables = variables
    leaves = jax.tree.leaves(variables["params"])
    self.num_parameters = sum(leaf.size for leaf in leaves)
    self._compiled: dict[Any, Any] = {}

  def apply(
    self,
    batch: Mapping[str, Any],
    *,
    bands: str = "stored",
    output_size: tuple[int, int] | None = None,
    aux: bool = False,
    features: bool = False,
  ) -> dict[str, Any]:
    """Runs the network on a batch, without dropout.

    It may be called within `jax.jit`, `jax.vmap` and `jax.grad`. Each batch
    shape is compiled once.

    Args:
      batch: `inputs[modality]` [b h w c] or [b t h w c], of any numeric dtype;
        `dates[modality]` [b t], days from the reference date, for series.
        Optional: `valid[modality]` bool [b t], by default dates with nonzero
        values; `present[modality]` bool [b], by default True; `labels`, of
        which only the size is read.
      bands: "stored": inputs have all stored bands in file order; "network":
        they have the bands of the run, in its order.
      output_size: rows and columns of the logits; by default the size of the
        labels, or the size at the GSD of the labels.
      aux: whether to return auxiliary logits too.
      features: whether to return the fused features, the inputs of the
        decoders, too.

    Returns:
      `{"logits": {task: float32 [b h w k]}}`, `"aux": {modality: {task: …}}`
      and `"features": [[b h w c], …]`, finest first; one array for a network
      of series only.

    Raises:
      InputError: a modality or its dates are missing or have another shape, or
        features are requested of late fusion, which has none.
    """
    if bands not in _BANDS:
      raise InputError("bands", " or ".join(_BANDS), repr(bands))
    arrays = self._check(batch, bands)
    if output_size is None:
      output_size = _label_size(batch) or self._logits_size(arrays)
    shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arrays
    )
    leaves, structure = jax.tree.flatten(shapes)
    key = (structure, *((x.shape, x.dtype) for x in leaves))
    key += (bands, tuple(output_size), aux, features)
    if key not in self._compiled:
      self._compiled[key] = self._build(
        shapes, bands, tuple(output_size), aux, features
      )
    forward, variables = self._compiled[key]
    return forward(variables, arrays)

  def _build(self, shapes, bands, output_size, aux, features):
    """Returns a jitted function of variables and batch, and its variables."""
    network = build.build_segmenter(self.config, output_size=output_size)
    if features and not network.strategy.has_features:
      raise InputError(
        "features", "early or mid fusion", self.config.fusion.kind
      )
    if bands == "network":
      network = network.clone(
        inputs=tuple(
          dataclasses.replace(spec, is_chosen=True) for spec in network.inputs
        )
      )
    # The position bias tables depend on the image size.
    variables = trained.fit(
      self.variables, build.variables_shape(network, shapes), where="the run"
    )

    def forward(variables, arrays):
      outputs, state = network.apply(
        variables, arrays, mutable=[fusion.FEATURES]
      )
      result = {"logits": outputs["logits"]}
      if aux:
        result["aux"] = outputs["aux"]
      if features:
        (result["features"],) = state[fusion.FEATURES]["fused"]
      return result

    # Without compiler options for determinism, which JAX does not allow inside
    # another jitted function.
    return jax.jit(forward), variables

  def _check(self, batch, bands):
    """Checks and converts the arrays that the network reads."""
    arrays = {"inputs": {}, "dates": {}, "valid": {}, "present": {}}
    for modality in self.config.data.modalities:
      row = self.config.schema.sensors[modality]
      x = batch.get("inputs", {}).get(modality)
      where = f"batch['inputs'][{modality!r}]"
      if x is None:
        raise InputError(where, "an array", "none")
      expected = {
        "stored": row.bands,
        "network": tuple(self.config.inputs[modality].bands),
      }
      shape = np.shape(x)
      if len(shape) != 4 + row.is_series or shape[-1] != len(expected[bands]):
        axes = "[b t h w c]" if row.is_series else "[b h w c]"
        choices = " or ".join(
          f"{len(names)} ({', '.join(names)}) with bands={choice!r}"
          for choice, names in expected.items()
        )
        raise InputError(
          where, f"{axes} with {choices}", f"{shape} with bands={bands!r}"
        )
      arrays["inputs"][modality] = _array(x)
      if row.is_series:
        self._add_dates(modality, arrays["inputs"][modality], batch, arrays)
      present = batch.get("present", {}).get(modality)
      if present is not None:
        if np.shape(present) != shape[:1]:
          raise InputError(
            f"batch['present'][{modality!r}]", shape[:1], np.shape(present)
          )
        arrays["present"][modality] = jnp.asarray(present, bool)
    return arrays

  def _add_dates(self, modality, x, batch, arrays):
    dates = batch.get("dates", {}).get(modality)
    if dates is None or np.shape(dates) != x.shape[:2]:
      raise InputError(
        f"batch['dates'][{modality!r}]",
        x.shape[:2],
        "none" if dates is None else np.shape(dates),
      )
    valid = batch.get("valid", {}).get(modality)
    if valid is None:
      # In the reference, padding is all zeros.
      valid = (x != 0).any((2, 3, 4))
    elif np.shape(valid) != x.shape[:2]:
      raise InputError(
        f"batch['valid'][{modality!r}]", x.shape[:2], np.shape(valid)
      )
    arrays["dates"][modality] = jnp.asarray(dates, jnp.int32)
    arrays["valid"][modality] = jnp.asarray(valid, bool)

  def _logits_size(self, arrays):
    """Size of the first modality in pixels of the labels."""
    first = build.first_modality(self.config)
    size = arrays["inputs"][first].shape[-3:-1]
    return tuple(build.label_pixels(self.config, pixels) for pixels in size)


def _array(x: Any) -> jax.Array:
  """Converts to a JAX array; float64 becomes float32."""
  if getattr(x, "dtype", None) == np.float64:
    x = x.astype(np.float32)
  return jnp.asarray(x)


def _label_size(batch) -> tuple[int, int] | None:
  for label in batch.get("labels", {}).values():
    return tuple(np.shape(label)[1:3])
  return None


def load_model(
  run: str | os.PathLike, *, normalisation: str | None = None
) -> Model:
  """Loads the best weights of a run directory.

  Args:
    run: directory of `train` or `import-weights`.
    normalisation: replaces that of the run: "custom", "scaling" or "without".

  Raises:
    InputError: no run, no checkpoint, or an unknown normalisation.
  """
  _, config = run_directory.open_run(run)
  if normalisation is not None:
    with config.unlocked():
      config.data.normalisation = normalisation
  build.first_modality(config)  # checks the names
  variables, _ = trained.restore(run)
  # Uncommitted arrays, as a batch may be on any device.
  variables = jax.tree.map(jnp.asarray, jax.device_get(variables))
  return Model(config, variables)
