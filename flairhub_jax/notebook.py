"""A trained network for notebooks and scripts: batches, and maps of arrays."""

import os
from collections.abc import Mapping
from typing import Any

import jax

from flairhub_jax import run_schema
from flairhub_jax.inference import model, trained
from flairhub_jax.mapping import array_inputs, array_map
from flairhub_jax.mapping.layout import Layout
from flairhub_jax.mapping.network import WindowNetwork
from flairhub_jax.models import build


class Model(model.Model):
  """A network with its weights, which also maps rasters of any size."""

  def __init__(self, config: Any, variables: Mapping[str, Any]):
    """Takes weights; networks are compiled when they are needed."""
    super().__init__(config, variables)
    self._trained = run_schema.as_trained(config)
    self._window_networks: dict[Any, WindowNetwork] = {}

  def map(
    self,
    rasters: Any,
    *,
    dates: Mapping[str, Any] | None = None,
    masks: Mapping[str, Any] | None = None,
    window: int | None = None,
    overlap: int | None = None,
    batch_size: int | None = None,
    probabilities: bool = False,
    progress: bool | None = None,
  ) -> array_map.ArrayMap:
    """Maps rasters as `flairhub zonal` does, and returns arrays.

    Networks for windows of one size are compiled once.

    Args:
      rasters: by sensor, or one alone: arrays of stored values [h w bands], or
        [t h w bands] of a series; `(array, transform, crs)`; open datasets of
        rasterio, read by windows; or DataArrays of xarray with rioxarray.
        Arrays alone have pixels of the GSD of their sensor and one upper left
        corner. Sensors may be left out, as missing ones.
      dates: of each series, in order: 2021-01-14, 20210114, or dates of Python
        or NumPy; not needed for a DataArray with `time`.
      masks: of some series, rasters of their quality masks.
      window: rows and columns of a window; None: those of the run.
      overlap: pixels shared by neighbouring windows; None: a quarter.
      batch_size: windows computed at once; None: the batch size of the run.
      probabilities: whether to return probabilities too.
      progress: whether to show a bar; None: in a terminal only.

    Returns:
      Classes and probabilities of each task, transform and CRS.

    Raises:
      InputError: rasters or dates that do not fit their sensor or each other,
        or windows of impossible sizes.
    """
    sensors = array_inputs.open_inputs(
      self._trained.schema,
      tuple(self.config.data.modalities),
      rasters,
      dates=dates or {},
      masks=masks or {},
    )
    return array_map.compute(
      self._trained,
      sensors,
      self._window_network,
      is_placed=array_inputs.is_placed(rasters),
      window=window,
      overlap=overlap,
      batch_size=batch_size,
      probabilities=probabilities,
      progress=progress,
    )

  def _window_network(
    self, example: Mapping[str, Any], layout: Layout, batch_size: int
  ) -> WindowNetwork:
    """The network for windows of a layout, compiled at the first use."""
    leaves, structure = jax.tree.flatten(example)
    key = (structure, *(leaf.shape for leaf in leaves))
    key += (layout.shape, layout.logits, batch_size)
    if key not in self._window_networks:
      network = build.build_segmenter(self.config, output_size=layout.logits)
      shape = build.variables_shape(network, example)
      variables = trained.fit(self.variables, shape, where="the run")
      self._window_networks[key] = WindowNetwork(
        network, variables, example, layout, batch_size=batch_size
      )
    return self._window_networks[key]


def load_model(
  run: str | os.PathLike, *, normalisation: str | None = None
) -> Model:
  """Loads the best weights of a run; see `inference.model.load_model`."""
  loaded = model.load_model(run, normalisation=normalisation)
  return Model(loaded.config, loaded.variables)
