"""From a configuration to what a network reads of each sensor."""

from typing import Any

import jax.numpy as jnp

from flairhub_jax import choice
from flairhub_jax.errors import InputError
from flairhub_jax.models.normalise import InputSpec
from flairhub_jax.schema import Sensor

_NORMALISATIONS = ("custom", "scaling", "without")


def build_inputs(config: Any) -> tuple[InputSpec, ...]:
  """The modalities in the order of the schema, with bands and statistics.

  Raises:
    InputError: none, or a sensor, band or normalisation that does not exist.
  """
  table = config.schema.sensors
  asked = choice.known("config.data.modalities", config.data.modalities, table)
  if not asked:
    raise InputError("config.data.modalities", "at least one modality", "none")
  kind = choice.one("config.data.normalisation", config.data, _NORMALISATIONS)
  inputs = []
  for modality in table:
    if modality not in asked:
      continue
    where = f"config.inputs.{modality}"
    given, row = config.inputs[modality], table[modality]
    known = (*row.bands, *row.derived_bands)
    bands = choice.known(f"{where}.bands", given.bands, known)
    if not bands:
      raise InputError(f"{where}.bands", "at least one band", "none")
    mean, std = _normalisation(kind, where, given, row, bands)
    inputs.append(input_spec(row, bands, mean, std))
  return tuple(inputs)


def input_spec(
  sensor: Sensor,
  bands: tuple[str, ...],
  mean: tuple[float, ...] = (),
  std: tuple[float, ...] = (),
) -> InputSpec:
  """What a network reads of a sensor; see `InputSpec`."""
  return InputSpec(
    modality=sensor.id,
    stored_bands=sensor.bands,
    derived_bands=tuple((k, *v) for k, v in sensor.derived_bands.items()),
    is_series=sensor.is_series,
    bands=bands,
    mean=mean,
    std=std,
  )


def _normalisation(kind, where, given, row, bands):
  """Mean and standard deviation by which the bands are normalised."""
  if kind == "custom":
    mean = _statistics(f"{where}.mean", given.mean, bands)
    std = _statistics(f"{where}.std", given.std, bands)
    if bool(mean) != bool(std):
      raise InputError(where, "both mean and std, or neither", "one of them")
    return mean, std
  # The reference normalises no series and scales no fractional numbers.
  is_whole = jnp.issubdtype(row.numpy_dtype, jnp.integer)
  if kind == "scaling" and is_whole and not row.is_series:
    largest = float(jnp.iinfo(row.numpy_dtype).max)
    return (0.0,) * len(bands), (largest,) * len(bands)
  return (), ()


def _statistics(where, by_band, bands):
  """One number per band, or nothing where `by_band` is empty."""
  if not by_band:
    return ()
  for band in bands:
    if band not in by_band:
      raise InputError(where, f"a number for band {band}", sorted(by_band))
  return tuple(float(by_band[band]) for band in bands)
