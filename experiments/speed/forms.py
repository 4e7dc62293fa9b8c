"""Every form of every operation alone, at the shapes of real networks."""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flairhub_jax.models import attention, convolution, kernels, layers, swin


def alone(small: bool) -> dict[str, tuple[str, str, tuple]]:
  """Returns name -> operation, function, shapes, from published networks.

  Shapes are of 8 patches (of 1 in miniature), LC-G's of 8 series of 30 dates.
  """
  b = 1 if small else 8
  dates = 2 if small else 30 * b
  return {
    "attention, 144 tokens, 4 heads": ("attention", "attend", (12, 11, b, 4)),
    "attention, 144 tokens, 16 heads": ("attention", "attend", (12, 3, b, 16)),
    "attention, 49 tokens, 3 heads": ("attention", "attend", (7, 19, b, 3)),
    "resize, 32 to 64": ("resize", "resize", ((b, 32, 32, 256), 64)),
    "resize, logits": ("resize", "resize", ((b, 128, 128, 19), 512)),
    "bottleneck": (
      "convolution", "convolve", ((b, 128, 128, 256), (3, 3, 256, 64)),
    ),
    "dense": ("dense", "project", ((b, 128, 128, 128), (128, 512))),
    "depthwise, 128 px": (
      "depthwise", "depthwise", ((b, 128, 128, 96), (7, 7, 96)),
    ),
    "depthwise, 32 px": (
      "depthwise", "depthwise", ((b, 32, 32, 384), (7, 7, 384)),
    ),
    "reflect": (
      "padded_convolution", "reflect", ((dates, 10, 10, 64), (3, 3, 64, 64)),
    ),
  }  # fmt: skip


def prepare(function: str, shapes: tuple, dtype: str):
  """Returns a function of arrays, and random arrays for it."""
  rng = np.random.default_rng(0)

  def draw(*shapes):
    return [jnp.asarray(rng.standard_normal(s), dtype) for s in shapes]

  if function == "attend":
    window, windows, images, heads = shapes
    tokens, width = window**2, 32 * heads
    size = (window * windows,) * 2
    mask = swin.shift_mask(size, (window,) * 2, (window // 2,) * 2)
    arrays = draw((images * windows**2, tokens, 3 * width))
    bias = rng.standard_normal((heads, tokens, tokens)).astype(np.float32)
    return lambda qkv, bias: attention.attend(qkv, bias, mask), [*arrays, bias]
  if function == "resize":
    shape, size = shapes
    return lambda x: layers.resize(x, (size, size)), draw(shape)
  return {
    "convolve": convolution.convolve,
    "project": convolution.project,
    "depthwise": convolution.convolve_depthwise,
    "reflect": lambda *xs: convolution.convolve(*xs, padding_mode="reflect"),
  }[function], draw(*shapes)


def time_form(key: dict, small: bool) -> dict | None:
  """Median seconds of the forward pass, and of forward and backward pass."""
  operation, function, shapes = alone(small)[key["case"]]
  run, arrays = prepare(function, shapes, key["dtype"])

  def both(*arrays):
    value, back = jax.vjp(run, *arrays)
    return value, back(value)

  numbers: dict[str, Any] = {"device": jax.devices()[0].device_kind}
  precision = key["matmul_precision"]
  precision = None if precision == "default" else precision
  with (
    kernels.forced(**{operation: key["form"]}),
    jax.default_matmul_precision(precision),
  ):
    for name, timed in (("forward", run), ("with_gradients", both)):
      try:
        program = jax.jit(timed).lower(*arrays).compile()
        jax.block_until_ready(program(*arrays))
        seconds = []
        for _ in range(3 if small else 20):
          start = time.perf_counter()
          jax.block_until_ready(program(*arrays))
          seconds.append(time.perf_counter() - start)
      except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
          raise
        return None
      numbers[name] = statistics.median(seconds)
      numbers[f"{name}_bytes"] = program.memory_analysis().temp_size_in_bytes
  return numbers
