"""Cases of the reference's numbers: whole networks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flairhub_jax.configs import base
from flairhub_jax.flair_hub import FLAIR_HUB
from flairhub_jax.models import build
from flairhub_jax.weights import reference, reference_document, reference_only
from tests.parity.origin import Origin


def tell_utae(config: Any, message: dict[str, Any]) -> None:
  """Takes over the reference's section `multitemp_model`, or some of it."""
  names = reference_document.same_fields(reference_document.SeriesNetwork)
  for name, path in names.items():
    if name in message:
      value = message[name]
      value = tuple(value) if isinstance(value, list) else value
      config.update_from_flattened_dict({path: value})


@dataclasses.dataclass
class Case:
  """One parity case: the reference's numbers and what made them."""

  name: str
  settings: dict[str, Any]
  numbers: Any
  rule: Any

  def tensors(self, prefix: str = "") -> dict[str, np.ndarray]:
    """The weights, by the rule of the fixtures."""
    return {
      key: self.rule.make_param(prefix + key, shape, dtype)
      for key, shape, dtype in self.settings["state_keys"]
    }

  def array(self, name: str) -> np.ndarray:
    """An input in the reference's layout."""
    (spec,) = [s for s in self.settings["inputs"] if s["name"] == name]
    return self.rule.make_input(self.name, spec)

  def batch(self) -> dict[str, dict[str, np.ndarray]]:
    """The inputs as our batch."""
    batch = {"inputs": {}, "dates": {}, "valid": {}}
    for modality in self.settings["modalities"]:
      row = FLAIR_HUB.sensors[modality]
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
    config.data.normalisation = "without"
    tell_utae(config, self.settings.get("multitemp_model", {}))
    config.model.utae.count_padding = True
    return config

  def network(self, **changes):
    """The network, its variables with the fixture's weights, and the batch."""
    config, batch = self.config(), self.batch()
    config.model.update(changes)
    side = self.array(self.settings["labels"][0]).shape[1:]
    segmenter = build.build_segmenter(config, output_size=side)
    shape = build.variables_shape(segmenter, batch)
    variables = reference.from_reference(
      self.tensors(), shape, unused_shape(segmenter, batch)
    )
    return segmenter, variables, batch


def unused_shape(segmenter: Any, batch: Any) -> dict[str, Any]:
  """Shapes of parameters that only the reference's files have."""
  return reference_only.shape_of(reference_only.describe(segmenter, batch))


def load_case(origin: Origin, name: str) -> Case:
  """Loads a case by its name."""
  return Case(name, origin.settings(name), origin.arrays(name), origin.rule)


def flat_outputs(outputs):
  """The network's outputs under the fixtures' names, channels second."""
  flat = {f"logits/{task}": x for task, x in outputs["logits"].items()}
  for modality, tasks in outputs["aux"].items():
    flat |= {f"aux/aux_{modality}_{task}": x for task, x in tasks.items()}
  return {key: _channels_second(x) for key, x in flat.items()}


def forward(segmenter: Any, variables: Any, batch: Any) -> tuple[Any, Any]:
  """Outputs, and the intermediate features of each module by name."""
  outputs, state = segmenter.apply(
    variables,
    batch,
    capture_intermediates=True,
    mutable=["intermediates"],
  )
  for name in ("__call__", "fused"):
    state["intermediates"].pop(name, None)
  return outputs, state["intermediates"]


def flat_blocks(between: Any) -> dict[str, np.ndarray]:
  """Intermediate features under the fixtures' names."""
  actual = {}
  for name, module in between.items():
    kind, _, owner = name.partition("_")
    output = module.get("__call__", (None,))[0]
    if kind == "encoder" and FLAIR_HUB.sensors[owner].is_series:
      logits, maps = output
      _, attention = module["temporal"]["__call__"][0]
      if logits is not None:
        actual[f"utae_logits/{owner}/0"] = _channels_second(logits)
      actual[f"attn/{owner}/0"] = np.moveaxis(np.asarray(attention), -1, 0)
      for i, x in enumerate(maps):
        actual[f"feat/{owner}/{i}"] = _channels_second(x)
    elif kind == "encoder" or (name == "fusion" and output is not None):
      key = f"feat/{owner}" if owner else "fused"
      # The reference counts the image and half its size, even if empty.
      for i, x in enumerate(output, start=6 - len(output)):
        actual[f"{key}/{i}"] = _channels_second(x)
    elif kind == "decoder" and "bottleneck_norm" in module:
      x = np.maximum(module["bottleneck_norm"]["__call__"][0], 0)
      actual[f"decoder/{owner}/0"] = _channels_second(x)
    elif kind == "decoder" and "block_4" in module:
      x = module["block_4"]["__call__"][0]
      actual[f"decoder/{owner}/0"] = _channels_second(x)
  return actual


def _channels_second(x):
  return np.moveaxis(np.asarray(x), -1, 1)


def weighted_loss(outputs, labels, weights):
  """Sum over tasks of the class-weighted mean cross-entropy."""
  total = 0.0
  for task, logits in outputs["logits"].items():
    label = jnp.asarray(labels[task])
    weight = jnp.asarray(weights[task])[label]
    chosen = jnp.take_along_axis(logits, label[..., None], axis=-1)[..., 0]
    loss = jax.nn.logsumexp(logits, axis=-1) - chosen
    total = total + (weight * loss).sum() / weight.sum()
  return total
