"""Matrix products and convolutions; `kernels` selects a form per platform."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import cpu_convolution, kernels

PADDING_MODES = cpu_convolution.PADDING_MODES
# Images up to this many pixels, unless padded with zeros, are convolved line by
# line on a CPU.
_LINE_PIXELS = 1024


def project(
  x: Float[Array, "*n c"], kernel: Float[Array, "c d"]
) -> Float[Array, "*n d"]:
  """Returns `x @ kernel`."""
  return _DENSE(x, kernel)


def _product(x, kernel):
  return x @ kernel


def _product_backward(gradient, result, x, kernel):
  """Contracts the first axis of both factors for the weight gradient.

  Autodiff transposes a factor, which XLA materialises on a CPU.
  """
  return gradient @ kernel.T, cpu_convolution.contract_rows(x, gradient)


_DENSE = kernels.Operation(
  "dense",
  {
    "rows": kernels.Form(_product, _product_backward),
    "library": kernels.Form(_product),
  },
)


def convolve(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k k c d"],
  *,
  stride: int = 1,
  padding: int = 1,
  padding_mode: str = "zeros",
) -> Float[Array, "n p q d"]:
  """Convolves `x` after padding it.

  XLA's weight gradients are slow on a CPU. There, small images with other than
  zero padding are convolved line by line, and size-preserving convolutions have
  a custom backward pass. Other platforms use XLA's.
  """
  if padding_mode == "zeros":
    if stride == 1 and kernel.shape[0] == 2 * padding + 1:
      return _SAME(x, kernel)
    return _zeros(x, kernel, stride, padding)
  options = dict(stride=stride, padding=padding, padding_mode=padding_mode)
  if x.shape[1] * x.shape[2] <= _LINE_PIXELS:
    return _PADDED(x, kernel, **options)
  return _padded(x, kernel, **options)


def _zeros(x, kernel, stride, padding):
  """XLA's convolution with zero padding."""
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(padding, padding)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _same(x, kernel):
  """XLA's convolution with zero padding and the size of `x`."""
  return _zeros(x, kernel, 1, kernel.shape[0] // 2)


def _padded(x, kernel, *, stride, padding, padding_mode):
  """Pads, then convolves."""
  edge, mode = (padding, padding), PADDING_MODES[padding_mode]
  if padding:
    x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)), mode=mode)
  return _zeros(x, kernel, stride, 0)


_SAME = kernels.Operation(
  "convolution",
  {
    "patches": kernels.Form(_same, cpu_convolution.same_backward),
    "library": kernels.Form(_same),
  },
)
_PADDED = kernels.Operation(
  "padded_convolution",
  {
    "lines": kernels.Form(
      cpu_convolution.by_lines, cpu_convolution.by_lines_backward
    ),
    "library": kernels.Form(_padded),
  },
)


def transposed_convolve(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "k k c d"],
  *,
  stride: int,
  padding: int,
) -> Float[Array, "n p q d"]:
  """PyTorch's transposed convolution without output padding.

  `kernel` has PyTorch's orientation, the mirror image of XLA's.
  """
  edge = kernel.shape[0] - 1 - padding
  return jax.lax.conv_general_dilated(
    x,
    kernel[::-1, ::-1],
    (1, 1),
    [(edge, edge)] * 2,
    lhs_dilation=(stride, stride),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def pad_to_multiple(
  x: Float[Array, "b h w c"], multiple: int
) -> Float[Array, "b p q c"]:
  """Pads rows and columns with zeros at the end to a multiple."""
  rows, columns = -x.shape[1] % multiple, -x.shape[2] % multiple
  if not rows and not columns:
    return x
  return jnp.pad(x, ((0, 0), (0, rows), (0, columns), (0, 0)))


def cut_patches(
  x: Float[Array, "b h w c"], size: int
) -> Float[Array, "b p q d"]:
  """Cuts an image into patches of `size` x `size` pixels, one vector each.

  A linear layer on top is a convolution with stride equal to kernel size.
  """
  x = pad_to_multiple(x, size)
  b, h, w, c = x.shape
  x = x.reshape(b, h // size, size, w // size, size, c)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // size, w // size, size * size * c)


def convolve_depthwise(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"]
) -> Float[Array, "n h w c"]:
  """Depthwise convolution with zero padding."""
  return _DEPTHWISE(x, kernel)


def _grouped(x, kernel):
  """XLA's depthwise convolution."""
  edge = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel[:, :, None],
    (1, 1),
    [(edge, edge)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


_DEPTHWISE = kernels.Operation(
  "depthwise",
  {
    "shifts": kernels.Form(
      cpu_convolution.depthwise, cpu_convolution.depthwise_backward
    ),
    "library": kernels.Form(_grouped),
  },
)
