"""A trained network as an object, for notebooks and scripts."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from flairhub_jax import mesh, run_directory
from flairhub_jax.errors import InputError
from flairhub_jax.inference import trained
from flairhub_jax.modalities import MODALITIES
from flairhub_jax.models import build, swin


class Model:
  """A network with its weights.

  Attributes:
    config: configuration of the run.
    num_parameters: numbers in its file, unused layers included.
    variables: parameters and running statistics.
  """

  def __init__(self, config: Any, variables: Mapping[str, Any]):
    """Keeps `variables`; networks are built when a batch comes."""
    self.config = config
    self.variables = variables
    leaves = jax.tree.leaves(variables["params"])
    self.num_parameters = sum(leaf.size for leaf in leaves)
    self._by_size: dict[Any, Any] = {}

  def apply(
    self,
    batch: Mapping[str, Any],
    *,
    output_size: tuple[int, int] | None = None,
  ) -> dict[str, dict[str, Any]]:
    """Runs the network on a batch, without dropout.

    Args:
      batch: `inputs[modality]` [b h w c] or [b t h w c], any number type: all
        published bands as stored, or the run's bands in its order;
        `dates[modality]` [b t], days from the reference date, for series.
        Optional: `valid[modality]` bool [b t], by default dates with a value
        that is not 0; `present[modality]` bool [b], by default True;
        `labels`, of which only the size is read.
      output_size: rows and columns of the logits; by default those of the
        labels, or 0.2 m per pixel.

    Returns:
      `{"logits": {task: float32 [b h w k]}, "aux": {modality: {task: …}}}`.

    Raises:
      InputError: a modality or its dates are missing, or of another shape.
    """
    arrays = self._checked(batch)
    if output_size is None:
      output_size = _size_of_labels(batch) or self._ground_size(arrays)
    shapes = tuple(sorted((m, x.shape) for m, x in arrays["inputs"].items()))
    key = (*shapes, tuple(output_size))
    if key not in self._by_size:
      network = build.build_segmenter(
        self.config, output_size=tuple(output_size)
      )
      # Images of another size have other tables of relative positions.
      variables = swin.fit_bias_tables(
        self.variables, build.variables_shape(network, arrays)
      )
      forward = jax.jit(
        network.apply,
        compiler_options=mesh.compiler_options(network.deterministic),
      )
      self._by_size[key] = forward, variables
    forward, variables = self._by_size[key]
    return forward(variables, arrays)

  def _checked(self, batch):
    """The arrays that the network reads."""
    arrays = {"inputs": {}, "dates": {}, "valid": {}, "present": {}}
    for modality in self.config.data.modalities:
      row, where = MODALITIES[modality], f"batch['inputs'][{modality!r}]"
      x = batch.get("inputs", {}).get(modality)
      if x is None:
        raise InputError(where, "an array", "none")
      x = np.asarray(x)
      bands = {len(row.bands), len(self.config.inputs[modality].bands)}
      if x.ndim != 4 + row.is_series or x.shape[-1] not in bands:
        axes = "[b t h w c]" if row.is_series else "[b h w c]"
        counts = " or ".join(map(str, sorted(bands)))
        raise InputError(where, f"{axes} with {counts} bands", x.shape)
      if x.dtype == np.float64:
        x = x.astype(np.float32)
      arrays["inputs"][modality] = x
      if row.is_series:
        self._add_dates(modality, x, batch, arrays)
      present = batch.get("present", {}).get(modality)
      if present is not None:
        arrays["present"][modality] = np.asarray(present, bool)
    return arrays

  def _add_dates(self, modality, x, batch, arrays):
    dates = batch.get("dates", {}).get(modality)
    if dates is None or np.shape(dates) != x.shape[:2]:
      found = "none" if dates is None else np.shape(dates)
      raise InputError(f"batch['dates'][{modality!r}]", x.shape[:2], found)
    valid = batch.get("valid", {}).get(modality)
    if valid is None:
      # The reference recognises padding by its zeros.
      valid = (x != 0).any((2, 3, 4))
    elif np.shape(valid) != x.shape[:2]:
      raise InputError(
        f"batch['valid'][{modality!r}]", x.shape[:2], np.shape(valid)
      )
    arrays["dates"][modality] = np.asarray(dates, np.int32)
    arrays["valid"][modality] = np.asarray(valid, bool)

  def _ground_size(self, arrays):
    """Size of the first modality in pixels of 0.2 m."""
    first = build.first_modality(self.config)
    sides = arrays["inputs"][first].shape[-3:-1]
    return tuple(build.label_pixels(first, side) for side in sides)


def _size_of_labels(batch) -> tuple[int, int] | None:
  for label in batch.get("labels", {}).values():
    return tuple(np.shape(label)[1:3])
  return None


def load_model(
  run: str | os.PathLike, *, normalisation: str | None = None
) -> Model:
  """Loads the best weights of a run directory.

  Args:
    run: what `train` or `import-weights` wrote.
    normalisation: instead of the run's: "custom", "scaling" or "without".

  Raises:
    InputError: no run, no checkpoint, or an unknown normalisation.
  """
  _, config = run_directory.open_run(run)
  if normalisation is not None:
    with config.unlocked():
      config.data.normalisation = normalisation
  build.first_modality(config)  # raises where a name does not exist
  variables, _ = trained.restore(run)
  return Model(config, variables)
