"""Fixtures shared by several tests."""

import gc
import os
import pathlib

# jaxtyping looks the checker up as an attribute of `tests`.
from tests import typecheck  # noqa: F401
from tests.training import runs

ROOT = pathlib.Path(__file__).parents[1]

# Two devices, so that every test of training also tests sharding.
os.environ.setdefault("XLA_FLAGS", runs.xla_flags(num_devices=2))
# All processes and later test runs share one compilation cache.
os.environ |= {
  "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache"),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
}
# Tracing a network creates many objects but hardly any reference cycles.
gc.set_threshold(50_000, 20, 20)

import jax
import pytest

from tests.parity import origin as reference_numbers


def pytest_collection_modifyitems(items):
  """Runs long test files first, to balance the parallel processes."""
  long = {item.path for item in items if item.get_closest_marker("slow")}
  items.sort(key=lambda item: item.path not in long)


# Where every promotion of types must be explicit. Optax and gradients of JAX's
# attention (a form in test_kernels.py) rely on implicit ones.
STRICT = ("models", "test_losses.py", "test_metrics.py", "test_usage.py")
NOT_STRICT = "test_kernels.py"


@pytest.fixture(autouse=True)
def strict_promotion(request):
  """Refuses implicit promotion of types, such as float32 with int32."""
  parts = request.path.relative_to(ROOT).parts
  is_strict = any(name in parts for name in STRICT) and NOT_STRICT not in parts
  with jax.numpy_dtype_promotion("strict" if is_strict else "standard"):
    yield


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """Folder of reference outputs and real samples beside the clone."""
  folder = ROOT.parent / "shared"
  if not folder.is_dir():
    pytest.skip("needs ../shared (reference numbers, real imagery)")
  return folder


@pytest.fixture(scope="session", params=reference_numbers.ORIGINS)
def origin(request) -> reference_numbers.Origin:
  """Reference outputs: the small ones of this folder and those of ../shared."""
  if request.param not in reference_numbers.ORIGINS:
    pytest.skip("needs ../shared (numbers of large networks)")
  return reference_numbers.ORIGINS[request.param]


@pytest.fixture(scope="session")
def minidata(origin, tmp_path_factory):
  """The three patches the reference was run on, as records of `test`."""
  from flairhub_jax.data import convert
  from tests.data import schemas

  return convert.convert(
    {"test": origin.folder / "minidata" / "patches.csv"},
    tmp_path_factory.mktemp("minidata") / "records",
    schema=schemas.with_gsd(origin.gsd),
    num_workers=0,
    progress=False,
  )


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> pathlib.Path:
  """A small simulated data set in the published layout."""
  from flairhub_jax.data import simulate

  folder = tmp_path_factory.mktemp("simulated") / "raw"
  simulate.simulate(
    folder,
    num_patches=24,
    pixels=64,
    modalities=("AERIAL_RGBI", "SENTINEL2_TS", "SENTINEL1-ASC_TS"),
    seed=1,
    num_workers=0,
    progress=False,
  )
  return folder


@pytest.fixture(scope="session")
def converted(simulated, tmp_path_factory) -> pathlib.Path:
  """The same data set as records."""
  from flairhub_jax.configs import base
  from flairhub_jax.data import convert, pipeline

  out = tmp_path_factory.mktemp("converted") / "records"
  convert.convert(
    {
      split: simulated / "csv" / f"FLAIR-HUB_SIMULATED_{split.upper()}.csv"
      for split in ("train", "valid", "test")
    },
    out,
    metadata=None,
    cloud_filter=pipeline.build_cloud_filter(
      base.get_config().data.cloud_filter
    ),
    num_workers=0,
    progress=False,
  )
  return out
