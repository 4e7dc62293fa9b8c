"""What is unlikely about the rasters of a map: warnings, each with a remedy.

What is impossible is refused while rasters are opened. Here their values, on a
bounded sample, are compared with those of the training, and dates and sizes
with what the run knows of them.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from flairhub_jax import contract as contracts
from flairhub_jax.contract import Contract, SensorContract
from flairhub_jax.data import validity
from flairhub_jax.mapping import band_names, sample
from flairhub_jax.mapping.inputs import SensorInput
from flairhub_jax.mapping.layout import Layout

# A band with less than this share of the training's deviation is constant.
_CONSTANT = 0.02
_MOST_OF_8_BITS = 255
# A band is the brightest if it exceeds all others by this factor.
_BRIGHTER = 1.3
# Share of pixels in which vegetation makes a band the brightest, and how many
# times as often as the near infrared, if both are mistaken for one another.
_VEGETATION, _TIMES = 0.1, 4
# Rasters of almost a window's size lack nothing.
_ALMOST = 0.95
# Windows below this share of the training's are small.
_SMALL = 0.75
# Days that the dates of a series may span before they are of several years.
_LONGEST_SERIES = 400


def check_values(own: Contract, inputs: Mapping[str, SensorInput]) -> list[str]:
  """Compares the rasters of a map with what its run expects.

  Args:
    own: contract of the run.
    inputs: the rasters, before the first window.

  Returns:
    Lines for the user; warnings begin with this word.

  Raises:
    RunError: a file is damaged.
  """
  lines = []
  for name, each in inputs.items():
    row = own.sensors[name]
    values = sample.take(each.mosaic)
    if not np.isfinite(values).any():
      lines.append(f"warning: {name}: no data in any sampled part of it")
      continue
    lines += _of_values(row, each, values)
    if each.days is not None and row.series is not None:
      lines += check_dates(row, each.days, row.series.months)
  return lines


def check_size(
  own: Contract, inputs: Mapping[str, SensorInput], layout: Layout
) -> list[str]:
  """Compares rasters with windows, and windows with those of the training.

  Args:
    own: contract of the run.
    inputs: the rasters.
    layout: of the map.
  """
  lines = []
  finest = min(inputs, key=lambda n: min(inputs[n].mosaic.grid.pixel_metres))
  grid, window = inputs[finest].mosaic.grid, layout.window(0, 0)
  metres = [
    (g.height * g.pixel_metres[0], g.width * g.pixel_metres[1])
    for g in (grid, window)
  ]
  if any(a < _ALMOST * b for a, b in zip(*metres, strict=True)):
    rows, columns = layout.pixels[finest]
    lines.append(
      f"warning: {finest}: {grid.height} x {grid.width} pixels are less than a"
      f" window of {rows} x {columns}; the rest is mirrored, give neighbouring"
      " tiles together, as a folder"
    )
  for name, pixels in layout.pixels.items():
    trained = own.sensors[name].pixels
    if max(pixels) < _SMALL * trained:
      lines.append(
        f"warning: {name}: windows of {pixels[0]} x {pixels[1]} pixels, the"
        f" training's had {trained} x {trained}; --window of that size gives"
        " the network as much context"
      )
  return lines


def _of_values(row: SensorContract, each: SensorInput, values) -> list[str]:
  by_band = values.reshape(len(values), -1, len(row.bands))
  by_band = by_band.reshape(-1, len(row.bands))
  means = {
    band: float(np.nanmean(column))
    for band, column in zip(row.bands, by_band.T, strict=True)
    if np.isfinite(column).any()
  }
  far = contracts.deviations(row, means)
  lines = []
  if far:
    text = ", ".join(f"{band} {number:+.1f}" for band, number in far.items())
    lines.append(
      f"{row.id}: means of the bands, in standard deviations of the training:"
      f" {text}"
    )
  checks = (
    *_no_data(row, each, values),
    *(
      _range(row, by_band) or [*_distance(row, means), *_constant(row, by_band)]
    ),
    *_order(row, by_band),
    *_differences(row, by_band),
  )
  return lines + [f"warning: {row.id}: {line}" for line in checks]


def _no_data(row: SensorContract, each: SensorInput, values) -> Iterator[str]:
  """Values that look like missing data and are not declared as such."""
  missing = ~np.isfinite(values)[:, None]
  stored = np.where(missing, 0, values[:, None]).astype(each.mosaic.dtype)
  for text, share in validity.suspicious_fractions(stored, missing):
    is_zero = text.startswith("0 ")
    if is_zero and row.is_height:
      continue  # the level of the sea
    value = "0" if is_zero else text.split()[-1]
    yield (
      f"{text} in {share:.2%} of the pixels counts as measured; if it means no"
      f" data, declare it: gdal_edit.py -a_nodata {value} FILE"
    )


def _range(row: SensorContract, values: Float[np.ndarray, "n c"]) -> list[str]:
  """Values on another scale than the sensor's."""
  low, high = float(np.nanmin(values)), float(np.nanmax(values))
  typical = max(
    (each.mean + each.std for each in row.statistics.values()), default=None
  )
  is_large = row.dtype != "float32" if typical is None else typical > 10
  if 0 <= low and high <= 1 and is_large:
    return [
      f"values lie between {low:.3g} and {high:.3g}, as if scaled by their"
      f" smallest and largest; {_scale(row)} restores a known scale"
    ]
  is_16_bit = row.dtype.endswith("16") and not row.is_height
  if typical is not None:
    is_16_bit &= typical > _MOST_OF_8_BITS
  if is_16_bit and 0 <= low and high <= _MOST_OF_8_BITS:
    return [
      f"values fit in 8 bits ({low:.0f} to {high:.0f}), the training's were"
      f" {row.unit or row.dtype}; use the original raster, or {_scale(row)}"
    ]
  if "linear" in row.unit and np.nanpercentile(values, 5) < 0:
    return [
      "negative values, as of decibels, where the training has linear ones;"
      " convert them: 10 ** (value / 10)"
    ]
  return []


def _distance(row: SensorContract, means) -> list[str]:
  return [
    f"{line}; if units differ, {_scale(row)} converts them"
    for line in contracts.unlikely(row, means)
  ]


def _scale(row: SensorContract) -> str:
  return f"--scale {row.id}=FACTOR,OFFSET"


def _constant(row: SensorContract, values) -> Iterator[str]:
  """Bands of one value; those of elevation may be."""
  if row.is_height:
    return
  constant = []
  for band, column in zip(row.bands, values.T, strict=True):
    known, column = row.statistics.get(band), column[np.isfinite(column)]
    if known and len(column) and np.std(column) < _CONSTANT * known.std:
      constant.append(f"{band} {np.mean(column):.4g}")
  if constant:
    yield f"bands that hardly vary: {', '.join(constant)}"


def _order(row: SensorContract, values) -> Iterator[str]:
  """Near infrared at another place: vegetation is bright in it alone."""
  names = [band_names.meaning(band, row.bands) for band in row.bands]
  if not {"red", "near infrared"} <= set(names) or len(names) != len(
    set(names)
  ):
    return
  whole = values[np.isfinite(values).all(1)]
  if not len(whole):
    return
  infrared = names.index("near infrared")
  largest = np.sort(whole, 1)[:, -2:]
  is_bright = largest[:, 1] > _BRIGHTER * np.maximum(largest[:, 0], 1)
  winner = np.bincount(whole.argmax(1)[is_bright], minlength=len(names)) / len(
    whole
  )
  # Water may be bright in blue alone.
  candidates = [i for i, name in enumerate(names) if name in ("red", "green")]
  likely = max(candidates, key=winner.__getitem__)
  if winner[likely] >= max(_VEGETATION, _TIMES * winner[infrared]):
    order = list(range(len(names)))
    order.remove(likely)
    order.insert(infrared, likely)
    numbers = ",".join(str(i + 1) for i in order)
    yield (
      f"{row.bands[likely]} is by far the brightest band in"
      f" {winner[likely]:.0%} of the pixels, as near infrared is over"
      f" vegetation, {row.bands[infrared]} in {winner[infrared]:.0%}; --bands"
      f" {row.id}={numbers} puts it where the network reads it"
    )


def _differences(row: SensorContract, values) -> Iterator[str]:
  """Heights above ground that are 0 everywhere, or below it."""
  for channel in row.channels:
    if channel.difference is None:
      continue
    first, second = channel.difference
    index = {band: i for i, band in enumerate(row.bands)}
    if first not in index or second not in index:
      continue
    difference = values[:, index[first]] - values[:, index[second]]
    difference = difference[np.isfinite(difference)]
    if not len(difference):
      continue
    if not difference.any():
      yield (
        f"{first} and {second} are equal everywhere, so that {channel.band} is"
        f" 0; a raster of {first} and {second} is needed"
      )
    elif row.is_height and np.median(difference) < -0.5:
      order = [f"{i + 1}" for i in range(len(row.bands))]
      i, j = index[first], index[second]
      order[i], order[j] = order[j], order[i]
      yield (
        f"{channel.band} = {first} - {second} is negative in most pixels;"
        f" --bands {row.id}={','.join(order)} exchanges them"
      )


def check_dates(
  row: SensorContract,
  days: Int[np.ndarray, "t"],
  months: Sequence[int] | None,
) -> list[str]:
  """Warns of dates of several years, or in months unknown to the training.

  Args:
    row: the series.
    days: of its dates, since 1970-01-01.
    months: with dates in the training, 1 to 12; None: unknown.
  """
  dates = days.astype("datetime64[D]")
  lines = []
  span = int(days.max() - days.min())
  if span > _LONGEST_SERIES:
    lines.append(
      f"warning: {row.id}: dates from {dates.min()} to {dates.max()}; series of"
      " the training are of one year, choose its dates"
    )
  if months is not None:
    own = dates.astype("datetime64[M]").astype(int) % 12 + 1
    is_beyond = ~np.isin(own, months)
    if is_beyond.any():
      first = dates[is_beyond][0]
      lines.append(
        f"warning: {row.id}: {is_beyond.sum()} of {len(dates)} dates, as"
        f" {first}, lie in months without dates in the training"
      )
  return lines
