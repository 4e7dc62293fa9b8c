"""Rate of the loader with each augmentation, on patches of 512 pixels.

python -m experiments.speed.augmentation FOLDER
"""

import pathlib
import sys
import time

from flairhub_jax.configs import base
from flairhub_jax.data import (
  augmentation,
  convert,
  pipeline,
  records,
  simulate,
)

SENSORS = ("AERIAL_RGBI", "SENTINEL2_TS")
AERIAL = SENSORS[:1]
CASES = (
  (AERIAL, ()),
  (AERIAL, ("crop",)),
  (AERIAL, ("symmetry",)),
  (AERIAL, ("colour",)),
  (AERIAL, ("noise",)),
  (AERIAL, ("crop", "symmetry", "colour", "noise")),
  (SENSORS, ()),
  (SENSORS, ("dates",)),
)
BATCH_SIZE, NUM_BATCHES, REPEATS = 5, 8, 6


def main() -> None:
  """Prints patches per second and CPU time per patch."""
  folder = pathlib.Path(sys.argv[1])
  prepare(folder)
  dataset = records.load_dataset(folder / "records")
  for sensors, names in CASES:
    rate, cpu = measure(dataset, sensors, names)
    print(
      f"{' + '.join(sensors):27} {', '.join(names) or 'none':31}"
      f" {rate:5.0f} patches/s {1e3 * cpu:5.1f} ms of CPU"
    )


def prepare(folder: pathlib.Path) -> None:
  """Simulates and converts 20 patches, unless it was done."""
  if (folder / "records" / "dataset.json").exists():
    return
  simulate.simulate(
    folder / "raw", num_patches=20, modalities=SENSORS, num_workers=0
  )
  table = folder / "raw" / "csv" / "FLAIR-HUB_SIMULATED_TRAIN.csv"
  convert.convert({"train": table}, folder / "records", num_workers=0)


def measure(
  dataset: records.Dataset, sensors: tuple[str, ...], names: tuple[str, ...]
) -> tuple[float, float]:
  """Best patches per second, and mean seconds of CPU per patch."""
  config = base.get_config()
  config.data.modalities, config.data.augment = sensors, names
  for section in ("colour", "noise"):
    config.data.augmentation[section].sensors = AERIAL
  options = pipeline.build_read_options(config)
  batches = pipeline.train_batches(
    pipeline.PatchReader(dataset, "train", options),
    batch_size=BATCH_SIZE,
    seed=0,
    augment=augmentation.build_augmentation(config, dataset),
  )
  for _ in range(NUM_BATCHES):  # fills the buffer
    next(batches)
  rates, start = [], time.process_time()
  for _ in range(REPEATS):
    begin = time.perf_counter()
    for _ in range(NUM_BATCHES):
      next(batches)
    seconds = time.perf_counter() - begin
    rates.append(NUM_BATCHES * BATCH_SIZE / seconds)
  cpu = time.process_time() - start
  batches.close()
  return max(rates), cpu / (REPEATS * NUM_BATCHES * BATCH_SIZE)


if __name__ == "__main__":
  main()
