"""One patch as functions of arrays, from wherever the arrays are."""

import numpy as np
import pytest

from flairhub_jax.data import patch, pipeline, records, time_series, workers
from flairhub_jax.flair_hub import FLAIR_HUB

CLOUD_FILTER = time_series.CloudFilter(
  max_cloud=1, max_snow=1, max_cover=0.05, fallback="least_covered"
)


@pytest.mark.parametrize("period", [None, "monthly"])
def test_arrays_give_what_the_reader_gives(converted, period):
  dataset = records.load_dataset(converted)
  options = pipeline.ReadOptions(
    modalities=("SENTINEL2_TS", "AERIAL_RGBI"),
    tasks={},
    reference_date="05-15",
    date_buckets=(64,),
    cloud_filter=CLOUD_FILTER,
    periods={"SENTINEL2_TS": period} if period else {},
    averaging="observed",
  )
  example = pipeline.PatchReader(dataset, "train", options)[1]
  record = dataset.open_stream("train", "SENTINEL2_TS")[1]
  values, days, valid = patch.prepare_series(
    record["values"],
    record["dates"],
    record["quality"],
    quality_mask=FLAIR_HUB.sensors["SENTINEL2_TS"].quality_mask,
    reference_date="05-15",
    averaging="observed",
    cloud_filter=CLOUD_FILTER,
    period=period,
  )
  assert len(values) == (12 if period else len(days))
  np.testing.assert_array_equal(values, example["inputs"]["SENTINEL2_TS"])
  np.testing.assert_array_equal(days, example["dates"]["SENTINEL2_TS"])
  np.testing.assert_array_equal(valid, example["valid"]["SENTINEL2_TS"])
  image = dataset.open_stream("train", "AERIAL_RGBI")[1]["values"]
  np.testing.assert_array_equal(
    patch.prepare_image(image), example["inputs"]["AERIAL_RGBI"]
  )


def test_a_series_takes_the_length_wanted():
  series = np.arange(1, 6)
  np.testing.assert_array_equal(patch.fit_length(series, 3), [1, 3, 5])
  np.testing.assert_array_equal(
    patch.fit_length(series, 7), [1, 2, 3, 4, 5, 0, 0]
  )


def square(job, on_patches):
  if job < 0:
    raise ValueError(f"job {job}")
  on_patches(job)
  return job**2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_jobs_in_processes(num_workers):
  steps = []
  done = workers.run_jobs(square, iter(range(5)), num_workers, steps.append)
  assert sorted(done) == [(job, job**2) for job in range(5)]
  assert sum(steps) == 10
  with pytest.raises(ValueError, match="job -1"):
    list(workers.run_jobs(square, iter([-1, 2, 3]), num_workers, steps.append))
