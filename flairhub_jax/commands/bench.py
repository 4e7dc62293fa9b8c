"""Measure the speed of a network: training, forward passes, or whole maps."""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from flairhub_jax import (
  atomic,
  config_file,
  configuration,
  mesh,
  run_directory,
  run_schema,
  terminal,
)
from flairhub_jax.commands import bench_zonal
from flairhub_jax.data import augmentation, pipeline, records
from flairhub_jax.errors import InputError
from flairhub_jax.inference import patches
from flairhub_jax.models import build, flop_count, initialise
from flairhub_jax.training import step
from flairhub_jax.training.resolve import resolve

# Peak dense bfloat16 FLOP/s, from the manufacturers' data sheets.
_PEAK_BFLOAT16 = {
  "NVIDIA H200": 989e12,
  "NVIDIA H100 80GB HBM3": 989e12,
  "NVIDIA A100-SXM4-80GB": 312e12,
  "NVIDIA A100-SXM4-40GB": 312e12,
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5": 459e12,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags; `--config.…` overrides are read by `run`."""
  parser.add_argument("what", choices=("train", "forward", "zonal"))
  parser.add_argument(
    "--config",
    required=True,
    metavar="FILE.py[:ARG]",
    help="configuration; batches are random, or with --config.data.path those"
    " of the data; maps are always of a synthetic raster",
  )
  parser.add_argument(
    "--steps",
    type=int,
    default=10,
    help="measured steps, after two warm-up steps; default: 10",
  )
  parser.add_argument(
    "--dates",
    type=int,
    help="dates of a random time series; default: as in config.inputs",
  )
  parser.add_argument(
    "--json", metavar="FILE", help="also write the numbers to a file"
  )
  parser.add_argument(
    "--profile", metavar="DIR", help="write a trace of the last three steps"
  )


def run(args: argparse.Namespace) -> int:
  """Prints compile time, step time, throughput, FLOPs and memory."""
  if args.steps < 3:
    raise InputError("--steps", "at least 3", args.steps)
  if args.dates is not None and args.dates < 1:
    raise InputError("--dates", "at least 1", args.dates)
  mesh.tune_cpu_process()
  config = config_file.load_config_file(args.config, args.overrides)
  if args.what == "zonal":
    if args.profile:
      raise InputError("--profile", "bench train or forward", "bench zonal")
    numbers = bench_zonal.measure(config, args.steps, args.dates)
    _report(args, config, numbers, bench_zonal.format_report)
    return 0
  devices = mesh.build_mesh(**config.mesh)
  with contextlib.ExitStack() as closing:
    if config.data.path:
      dataset = records.load_dataset(config.data.path)
      run_schema.check(config, dataset, tasks=config.data.tasks)
      config = resolve(config, dataset)
      batches = _loaded(config, dataset, closing)
    else:
      with config.unlocked():
        config.train.num_steps = config.train.num_steps or 100_000
      mesh.local_batch_size(config.data.batch_size, config.train.accumulation)
      batches = _random(config, args.dates)
    numbers = measure(
      config, devices, batches, args.what, args.steps, args.profile
    )
  products = mesh.describe_numbers(
    devices,
    dtype=config.dtype,
    precision=config.matmul_precision,
    deterministic=config.deterministic,
  )
  numbers = {
    "data_fingerprint": config.data.fingerprint,
    "products": products,
    **numbers,
  }
  _report(args, config, numbers, format_report)
  return 0


def _report(args, config, numbers, format_numbers) -> None:
  """Prints the numbers, and writes them to a file on request."""
  numbers = {
    "config": [args.config, *args.overrides],
    # The content of the file may change.
    "config_sha256": run_directory.config_digest(config),
    **numbers,
  }
  print(format_numbers(numbers))
  if args.json:
    atomic.write_text(pathlib.Path(args.json), json.dumps(numbers) + "\n")


def measure(
  config: Any,
  devices: jax.sharding.Mesh,
  batches: Iterator[Mapping[str, Any]],
  what: str,
  num_steps: int,
  profile: str | None = None,
) -> dict[str, Any]:
  """Times steps one by one, waiting for each.

  Args:
    config: resolved configuration.
    devices: of `mesh.build_mesh`.
    batches: on the host, infinite, all of one shape.
    what: "train" or "forward".
    num_steps: measured steps, after two warm-up steps.
    profile: folder for a trace of the last three steps; None: no trace.

  Returns:
    Numbers by name; in seconds, bytes and FLOPs.
  """
  batch = mesh.place_batch(next(batches), devices)
  start = time.monotonic()
  advance, program, flops = _compile(config, devices, batch, what)
  compile_seconds = time.monotonic() - start
  waits, seconds = [], []
  steps = range(num_steps + 2)
  for number in terminal.progress_bar(steps, desc=what, unit="step"):
    if profile and number == num_steps - 1:
      jax.profiler.start_trace(profile)
    start = time.monotonic()
    batch = next(batches)
    waits.append(time.monotonic() - start)
    batch = mesh.place_batch(batch, devices)
    start = time.monotonic()
    advance(batch)
    seconds.append(time.monotonic() - start)
  if profile:
    jax.profiler.stop_trace()
  seconds, count, device = seconds[2:], jax.device_count(), jax.devices()[0]
  median, memory = float(np.median(seconds)), device.memory_stats() or {}
  peak = _PEAK_BFLOAT16.get(device.device_kind)
  return {
    "what": what,
    "device": device.device_kind,
    "num_devices": count,
    "jax": jax.__version__,
    "batch_size": config.data.batch_size,
    "data": "loaded" if config.data.path else "random",
    "compile_seconds": compile_seconds,
    "seconds": seconds,
    "median_seconds": median,
    "median_data_seconds": float(np.median(waits[2:])),
    "patches_per_second": config.data.batch_size / median,
    "flops": flops,
    "flops_per_second": flops / median,
    "mfu": peak and flops / median / count / peak,
    "bytes_per_device": step.needed_bytes(program),
    "peak_bytes_in_use": memory.get("peak_bytes_in_use"),
  }


def _compile(
  config: Any, devices: jax.sharding.Mesh, batch: Any, what: str
) -> tuple[Callable[[Any], None], jax.stages.Compiled, float]:
  """Returns a function that runs a step and waits, its program, its FLOPs."""
  model = build.build_segmenter(
    config, output_size=next(iter(batch["labels"].values())).shape[1:3]
  )
  variables = initialise.init_variables(
    model, build.input_shapes(config), seed=config.seed
  )
  if what == "forward":
    variables = jax.device_put(variables, mesh.replicated(devices))
    predict = patches.make_predict_step(model, devices)
    program = predict.lower(variables, batch).compile()
    flops = flop_count.count(predict, variables, batch)
    return (
      lambda batch: jax.block_until_ready(program(variables, batch)),
      program,
      flops,
    )
  state, train_step, _ = step.prepare(config, model, variables, devices, {})
  state = mesh.place_state(state, train_step.shardings)
  train_step.compile(state, batch)
  flops = train_step.flops(state, batch)

  def advance(batch):
    nonlocal state
    state, metrics = train_step(state, batch)
    jax.block_until_ready(metrics)

  return advance, train_step.program(batch), flops


def _loaded(
  config: Any, dataset: records.Dataset, closing: contextlib.ExitStack
) -> Generator[dict[str, Any], None, None]:
  """Training batches as `train` reads them, all padded to the longest."""
  options = pipeline.build_read_options(config)
  longest = (max(options.date_buckets),)
  options = dataclasses.replace(options, date_buckets=longest)
  augment = augmentation.build_augmentation(config, dataset)
  batches = pipeline.train_batches(
    pipeline.PatchReader(dataset, "train", options),
    batch_size=config.data.batch_size,
    seed=config.seed,
    augment=augment,
    num_workers=config.data.num_workers,
  )
  closing.callback(batches.close)
  return batches


def _random(config: Any, num_dates: int | None) -> Iterator[dict[str, Any]]:
  """Repeats one batch of noise."""
  rng = np.random.default_rng(config.seed)
  count = config.data.batch_size
  shapes = build.input_shapes(config, num_dates=num_dates)

  def noise(shape):
    values = rng.uniform(0, 255, (count, *shape.shape[1:]))
    return values.astype(shape.dtype)

  batch = {
    "inputs": {m: noise(shape) for m, shape in shapes["inputs"].items()},
    "dates": {
      m: np.tile(np.linspace(-180, 180, x.shape[1], dtype=np.int32), (count, 1))
      for m, x in shapes["dates"].items()
    },
    "valid": {
      m: np.ones((count, x.shape[1]), bool) for m, x in shapes["valid"].items()
    },
    "present": {m: np.ones(count, bool) for m in shapes["inputs"]},
    "labels": {
      name: rng.integers(
        0, task.num_classes, (count, *build.logits_size(config))
      ).astype(np.uint8)
      for name, task in configuration.label_tasks(config).items()
    },
    "sample_mask": np.ones(count, bool),
  }
  while True:
    yield batch


def format_report(found: Mapping[str, Any]) -> str:
  """Returns the numbers, one per line."""
  seconds = np.sort(found["seconds"])
  rate = found["flops_per_second"] / 1e12
  lines = [
    f"{found['what']}: {' '.join(found['config'])}",
    f"devices            {found['num_devices']} x {found['device']}",
    f"products           {found['products']}",
    f"batch              {found['batch_size']} patches, {found['data']}",
    f"compile            {found['compile_seconds']:.1f} s",
    f"step               {found['median_seconds']:.4f} s median,"
    f" {seconds[0]:.4f} to {seconds[-1]:.4f}",
    f"waiting for data   {found['median_data_seconds']:.4f} s a step",
    f"throughput         {found['patches_per_second']:.2f} patches/s",
    f"FLOPs              {found['flops'] / 1e9:.1f} GFLOP per step,"
    f" {rate:.3f} TFLOP/s",
    f"memory             {found['bytes_per_device'] / 1e9:.2f} GB per device",
  ]
  if found["mfu"]:
    lines.append(f"MFU                {found['mfu']:.1%} of bfloat16 peak")
  return "\n".join(lines)
