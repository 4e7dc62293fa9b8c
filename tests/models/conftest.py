"""Networks and inputs of the parity cases, from ../shared/parity."""

import dataclasses
import importlib.util
import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from configs import base
from flairhub_jax import modalities
from flairhub_jax.models import build
from flairhub_jax.weights import reference


@dataclasses.dataclass
class Case:
  """One parity case: the reference's numbers and what made them."""

  name: str
  settings: dict[str, Any]
  numbers: Any
  det: Any

  def tensors(self, prefix: str = "") -> dict[str, np.ndarray]:
    """The weights, by the rule of the fixtures."""
    return {
      key: self.det.make_param(prefix + key, shape, dtype)
      for key, shape, dtype in self.settings["state_keys"]
    }

  def array(self, name: str) -> np.ndarray:
    """An input in the reference's layout."""
    (spec,) = [s for s in self.settings["inputs"] if s["name"] == name]
    return self.det.make_input(self.name, spec)

  def batch(self) -> dict[str, dict[str, np.ndarray]]:
    """The inputs as our batch."""
    batch = {"inputs": {}, "dates": {}, "valid": {}}
    for modality in self.settings["modalities"]:
      row = modalities.MODALITIES[modality]
      x = np.moveaxis(self.array(modality), -3, -1)
      if row.is_series:
        name = modality.replace("TS", "DATES")
        dates = self.array(name).astype(np.int32)
        (spec,) = [s for s in self.settings["inputs"] if s["name"] == name]
        length = np.array(spec["n_valid"])[:, None]
        batch["dates"][modality] = dates
        batch["valid"][modality] = np.arange(dates.shape[1]) < length
      elif modality != "DEM_ELEV":
        # The network sees some of the stored bands, in its own order.
        stored = np.zeros((*x.shape[:-1], len(row.bands)), np.float32)
        for i, band in enumerate(row.default_bands):
          stored[..., row.bands.index(band)] = x[..., i]
        x = stored
      batch["inputs"][modality] = x
    return batch

  def config(self) -> Any:
    """The network's configuration; values are normalised already."""
    config = base.get_config()
    encoder, decoder = self.settings["arch"].split("-")
    config.model.encoder, config.model.decoder = encoder, decoder
    config.data.modalities = tuple(self.settings["modalities"])
    config.data.tasks = tuple(self.settings["labels"])
    config.model.auxiliary = tuple(self.settings["aux_losses"])
    config.inputs["DEM_ELEV"].bands = ("DSM", "DTM")
    for modality in modalities.MODALITIES:
      config.inputs[modality].mean = {}
      config.inputs[modality].std = {}
    return config

  def network(self, **changes):
    """The network, its variables with the fixture's weights, and the batch."""
    config, batch = self.config(), self.batch()
    config.model.update(changes)
    side = self.array(self.settings["labels"][0]).shape[1:]
    segmenter = build.build_segmenter(
      config, output_size=side, count_padding=True
    )
    shape = build.variables_shape(segmenter, batch)
    return segmenter, reference.from_reference(self.tensors(), shape), batch


@pytest.fixture(scope="session")
def det(shared: pathlib.Path):
  """The rule for weights and inputs."""
  return load_det(shared)


def load_det(shared):
  spec = importlib.util.spec_from_file_location(
    "det", shared / "parity" / "det.py"
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope="session")
def load_case(shared: pathlib.Path, det):
  """Loads a parity case by its name."""

  def load(name: str) -> Case:
    path = shared / "parity" / f"{name}.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    return Case(name, settings, np.load(path.with_suffix(".npz")), det)

  return load


@pytest.fixture(scope="session")
def units(shared: pathlib.Path):
  """Settings of the unit fixtures, and a loader of their numbers."""
  folder = shared / "parity" / "units"
  text = (folder / "units.json").read_text(encoding="utf-8")
  return json.loads(text), lambda name: np.load(folder / f"{name}.npz")


@pytest.fixture(scope="module", autouse=True)
def full_products():
  """Comparisons need full float32 products."""
  with jax.default_matmul_precision("highest"):
    yield
