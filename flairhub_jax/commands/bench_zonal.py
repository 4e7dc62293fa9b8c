"""`flairhub bench zonal`: maps a synthetic raster, and the network alone."""

import functools
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from flairhub_jax import configuration, terminal
from flairhub_jax.data import geotiff
from flairhub_jax.mapping import engine, examples, inputs, layout, store
from flairhub_jax.mapping.layers import Layers
from flairhub_jax.mapping.network import WindowNetwork
from flairhub_jax.mapping.stopwatch import Stopwatch
from flairhub_jax.models import build, initialise

# Windows beside each other.
_COLUMNS = 4
_ROUNDS = 3
_CORNER = (700_000.0, 6_600_000.0)

# Seconds of wall and of processor time. The latter counts where the network
# runs on the CPU: other programs on the machine hardly change it.
Times = tuple[float, float]


def measure(
  config: Any, num_steps: int, num_dates: int | None = None
) -> dict[str, Any]:
  """Times the network alone and the whole engine, in turn.

  Args:
    config: resolved configuration; its network gets random weights.
    num_steps: batches of the map, at least.
    num_dates: of each time series; None: as in `config.inputs`.

  Returns:
    Numbers by name, in seconds, windows and pixels of the map.
  """
  with tempfile.TemporaryDirectory(prefix="flairhub-bench-") as name:
    folder = pathlib.Path(name)
    sensors = _write_inputs(config, folder, num_steps, num_dates)
    try:
      return _measure(config, folder, sensors)
    finally:
      inputs.close(sensors)


def _write_inputs(config, folder, num_steps, num_dates):
  """Rasters of all sensors, of so many windows that are a quarter shared."""
  finest = min(
    config.data.modalities, key=lambda n: config.schema.sensors[n].gsd
  )
  side = config.inputs[finest].pixels * config.schema.sensors[finest].gsd
  rows = -(-num_steps * config.data.batch_size // _COLUMNS)
  # The last window in full, the others without what they share.
  metres = [side * (0.75 * number + 0.25) for number in (rows, _COLUMNS)]
  paths = {}
  for name in config.data.modalities:
    sensor = config.schema.sensors[name]
    height, width = (max(1, round(x / sensor.gsd)) for x in metres)
    count, raster, days = len(sensor.bands), folder / f"{name}.tif", None
    if sensor.is_series:
      dates = num_dates or config.inputs[name].num_dates
      count, days = count * dates, folder / f"{name}.txt"
      weeks = np.arange("2019-01-01", "2039-01-01", 7, "datetime64[D]")
      days.write_text("\n".join(map(str, weeks[:dates])))
    geotiff.write_raster(
      raster,
      _blocks(height, width, count).astype(sensor.numpy_dtype),
      geotiff.Georeference(
        crs="EPSG:2154",
        transform=(sensor.gsd, 0, _CORNER[0], 0, -sensor.gsd, _CORNER[1]),
        height=height,
        width=width,
      ),
    )
    paths[name] = inputs.SensorPaths(str(raster), days and str(days))
  return inputs.open_inputs(config.schema, config.data.modalities, paths)


def _blocks(height: int, width: int, count: int) -> np.ndarray:
  """Fields of one value each, with a little noise: [h w c]."""
  rng = np.random.default_rng(0)
  fields = rng.integers(1, 200, (-(-height // 32), -(-width // 32), count))
  values = fields.repeat(32, 0).repeat(32, 1)[:height, :width]
  return values + rng.integers(0, 8, values.shape)


def _measure(config, folder, sensors):
  finest = min(sensors, key=lambda n: min(sensors[n].mosaic.grid.pixel_metres))
  plan = layout.plan(sensors, window=config.inputs[finest].pixels)
  reader = examples.Reader(config, sensors, plan)
  example = examples.stack([reader.empty_example()])
  model = build.build_segmenter(config, output_size=plan.logits)
  variables = initialise.init_variables(
    model, build.input_shapes(config), seed=config.seed
  )
  network = WindowNetwork(
    model, variables, example, plan, batch_size=config.data.batch_size
  )
  alone, whole, stages = _rounds(config, network, reader, plan, folder)
  num_windows, size = _num_windows(plan), plan.rows.size * plan.columns.size
  seconds, cpu_seconds = np.median(whole, 0).tolist()
  forward, forward_cpu = np.median(alone, 0).tolist()
  return {
    "what": "zonal",
    "device": jax.devices()[0].device_kind,
    "num_devices": jax.local_device_count(),
    "jax": jax.__version__,
    "batch_size": network.batch_size,
    "window": list(plan.shape),
    "num_windows": num_windows,
    "map_pixels": size,
    "seconds": [wall for wall, _ in whole],
    "cpu_seconds": [cpu for _, cpu in whole],
    "forward_seconds": [wall for wall, _ in alone],
    "forward_cpu_seconds": [cpu for _, cpu in alone],
    "pixels_per_second": size / seconds,
    "windows_per_second": num_windows / seconds,
    "forward_windows_per_second": num_windows / forward,
    "share_of_forward": forward / seconds,
    "share_of_forward_cpu": forward_cpu / cpu_seconds,
    "stage_seconds": {
      stage: float(np.median([each[stage] for each in stages]))
      for stage in stages[0]
    },
  }


def _num_windows(plan: layout.Layout) -> int:
  return len(plan.rows) * len(plan.columns)


def _rounds(config, network, reader, plan, folder):
  """Times of the network alone and of the engine, and stages of the engine.

  Those of the network are of as many windows: the last batch of the map may
  have empty places.
  """
  batch = _batch(reader, plan, network.batch_size)
  num_batches = -(-_num_windows(plan) // network.batch_size)
  share = _num_windows(plan) / (num_batches * network.batch_size)
  _run_alone(network, batch, 2)
  alone: list[Times] = []
  whole: list[Times] = []
  stages = []
  for number in terminal.progress_bar(
    range(_ROUNDS), desc="zonal", unit="round"
  ):
    forward = functools.partial(_run_alone, network, batch, num_batches)
    wall, cpu = _time(forward)
    alone.append((wall * share, cpu * share))
    watch, out = Stopwatch(), folder / f"{number}.tif"
    run = functools.partial(
      _run_engine, config, network, reader, plan, out, watch
    )
    whole.append(_time(run))
    stages.append(watch.seconds)
  return alone, whole, stages


def _batch(reader, plan, batch_size):
  """Arguments of the network: windows of the map, in turn."""
  columns = len(plan.columns)
  windows = [
    reader.read(i // columns % len(plan.rows), i % columns)
    for i in range(batch_size)
  ]
  return (
    examples.stack([window.example for window in windows]),
    np.ones((batch_size, plan.shape[0]), np.float32),
    np.ones((batch_size, plan.shape[1]), np.float32),
  )


def _time(action: Callable[[], None]) -> Times:
  start, cpu_start = time.perf_counter(), time.process_time()
  action()
  return time.perf_counter() - start, time.process_time() - cpu_start


def _run_alone(network, batch, count) -> None:
  """Computes so many batches; one waits while another is computed."""
  previous = network(*batch)
  for _ in range(count - 1):
    following = network(*batch)
    jax.block_until_ready(previous)
    previous = following
  jax.block_until_ready(previous)


def _run_engine(config, network, reader, plan, out, watch) -> None:
  """Computes a map, with all rows on the disk at the end."""
  tasks = {
    name: task.num_classes
    for name, task in configuration.label_tasks(config).items()
  }
  layers = Layers()
  shape = plan.grid.height, plan.grid.width
  files = store.Store(out, "bench", layers.pixel_bytes(tuple(tasks)), shape)
  with files.open():
    engine.run(
      network,
      reader,
      plan,
      layers,
      tasks,
      write=lambda n, rows: files.write(n, rows, plan.is_flipped),
      finish=files.finish,
      watch=watch,
    )
  files.remove()


def format_report(numbers: Mapping[str, Any]) -> str:
  """Returns the numbers, one per line."""
  rows, columns = numbers["window"]
  seconds = float(np.median(numbers["seconds"]))
  lines = [
    f"zonal: {' '.join(numbers['config'])}",
    f"devices            {numbers['num_devices']} x {numbers['device']}",
    f"map                {numbers['map_pixels'] / 1e6:.2f} Mpixel,"
    f" {numbers['num_windows']} windows of {rows} x {columns}, batches of"
    f" {numbers['batch_size']}",
    f"engine             {numbers['windows_per_second']:.3f} windows/s,"
    f" {numbers['pixels_per_second'] / 1e6:.3f} Mpixel/s of the map",
    f"network alone      {numbers['forward_windows_per_second']:.3f} windows/s:"
    f" the engine reaches {numbers['share_of_forward']:.1%}"
    f" ({numbers['share_of_forward_cpu']:.1%} by processor time)",
  ]
  for stage, value in numbers["stage_seconds"].items():
    note = " (beside the others)" if stage == "reading" else ""
    lines.append(f"{stage:<18} {value:.2f} s of {seconds:.2f} s{note}")
  return "\n".join(lines)
