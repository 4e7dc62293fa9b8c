"""Builds the `InputSpec` of each modality from a configuration."""

from typing import Any

import jax.numpy as jnp

from flairhub_jax import choice
from flairhub_jax.errors import InputError
from flairhub_jax.models.normalise import InputSpec
from flairhub_jax.schema import Sensor

_NORMALISATIONS = ("custom", "scaling", "without")


def build_inputs(config: Any) -> tuple[InputSpec, ...]:
  """Returns the active modalities in schema order, with bands and statistics.

  Raises:
    InputError: no modality, or an unknown sensor, band or normalisation.
  """
  sensors = config.schema.sensors
  active = choice.known(
    "config.data.modalities", config.data.modalities, sensors
  )
  if not active:
    raise InputError("config.data.modalities", "at least one modality", "none")
  kind = choice.one("config.data.normalisation", config.data, _NORMALISATIONS)
  inputs = []
  for modality, sensor in sensors.items():
    if modality not in active:
      continue
    where, settings = f"config.inputs.{modality}", config.inputs[modality]
    bands = choice.known(
      f"{where}.bands", settings.bands, (*sensor.bands, *sensor.derived_bands)
    )
    if not bands:
      raise InputError(f"{where}.bands", "at least one band", "none")
    mean, std = _normalisation(kind, where, settings, sensor, bands)
    inputs.append(input_spec(sensor, bands, mean, std))
  return tuple(inputs)


def input_spec(
  sensor: Sensor,
  bands: tuple[str, ...],
  mean: tuple[float, ...] = (),
  std: tuple[float, ...] = (),
) -> InputSpec:
  """Returns the `InputSpec` of a sensor."""
  return InputSpec(
    modality=sensor.id,
    stored_bands=sensor.bands,
    derived_bands=tuple((k, *v) for k, v in sensor.derived_bands.items()),
    is_series=sensor.is_series,
    bands=bands,
    mean=mean,
    std=std,
  )


def _normalisation(kind, where, settings, sensor, bands):
  """Mean and standard deviation to normalise the bands with."""
  if kind == "custom":
    mean = _statistics(f"{where}.mean", settings.mean, bands)
    std = _statistics(f"{where}.std", settings.std, bands)
    if bool(mean) != bool(std):
      raise InputError(where, "both mean and std, or neither", "one of them")
    return mean, std
  # The reference does not normalise series, nor scale floats.
  is_integer = jnp.issubdtype(sensor.numpy_dtype, jnp.integer)
  if kind == "scaling" and is_integer and not sensor.is_series:
    largest = float(jnp.iinfo(sensor.numpy_dtype).max)
    return (0.0,) * len(bands), (largest,) * len(bands)
  return (), ()


def _statistics(where, by_band, bands):
  """One number per band; empty if `by_band` is empty."""
  if not by_band:
    return ()
  for band in bands:
    if band not in by_band:
      raise InputError(where, f"a number for band {band}", sorted(by_band))
  return tuple(float(by_band[band]) for band in bands)
