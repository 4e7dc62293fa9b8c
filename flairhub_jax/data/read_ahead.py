"""Reading of batches ahead of use, by threads or processes."""

import sys
from collections.abc import Generator, Mapping
from multiprocessing import resource_tracker
from typing import Any

import grain
import numpy as np
from absl import flags


def iterate(
  batches: grain.MapDataset, num_workers: int
) -> Generator[dict[str, Any], None, None]:
  """Yields batches in order.

  Args:
    batches: nested dictionaries of arrays, by batch index.
    num_workers: reading processes; 0 reads in threads.
  """
  if num_workers:
    _prepare_processes()
  iterator = iter(_read_ahead(batches, num_workers))
  try:
    for batch in iterator:
      yield _copied(batch) if num_workers else batch
  finally:
    iterator.close()


def _prepare_processes() -> None:
  if not flags.FLAGS.is_parsed():
    # Grain reads its own absl flags to start workers. Marking flags as parsed
    # makes them readable before the program parses its command line.
    for name in [name for name in flags.FLAGS if name.startswith("grain_")]:
      flags.FLAGS[name].present = 1
  # When Grain's processes are stopped, pending batches stay in shared memory
  # (grain#1031). Python's resource tracker frees them at the end of the program
  # with a warning; its warning options are fixed when it starts.
  silence = "ignore:resource_tracker:UserWarning"
  sys.warnoptions.append(silence)
  try:
    resource_tracker.ensure_running()
  finally:
    sys.warnoptions.remove(silence)


def _copied(x: Any) -> Any:
  """Copies arrays out of shared memory, so that it can be freed."""
  if isinstance(x, Mapping):
    return {name: _copied(value) for name, value in x.items()}
  return np.array(x)


def _read_ahead(
  batches: grain.MapDataset, num_workers: int
) -> grain.IterDataset:
  # Both buffers are counted in batches, which are large.
  options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
  dataset = batches.to_iter_dataset(options)
  if num_workers == 0:
    return dataset
  return dataset.mp_prefetch(
    grain.MultiprocessingOptions(
      num_workers=num_workers, per_worker_buffer_size=2
    )
  )
