"""Products and convolutions; `kernels` chooses their form by platform."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from flairhub_jax.array_type import Array
from flairhub_jax.models import cpu_convolution, kernels

PADDING_MODES = cpu_convolution.PADDING_MODES
# Maps up to this many pixels are convolved by lines on a CPU where they are
# padded with their own pixels.
_LINE_PIXELS = 1024


def project(
  x: Float[Array, "*n c"], kernel: Float[Array, "c d"]
) -> Float[Array, "*n d"]:
  """Returns `x @ kernel`."""
  return _DENSE(x, kernel)


def _product(x, kernel):
  return x @ kernel


def _product_backward(gradient, result, x, kernel):
  """The weight's gradient contracts the first axis of both factors.

  Autodiff asks for a transpose, which XLA writes out first on a CPU.
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

  On a CPU, where XLA's own weight gradients are slow, small images padded with
  their own pixels are convolved line by line, and convolutions that keep the
  size get gradients of their own. Elsewhere XLA's are good.
  """
  if padding_mode == "zeros":
    if stride == 1 and kernel.shape[0] == 2 * padding + 1:
      return _SAME(x, kernel)
    return _zeros(x, kernel, stride, padding)
  how = dict(stride=stride, padding=padding, padding_mode=padding_mode)
  if x.shape[1] * x.shape[2] <= _LINE_PIXELS:
    return _PADDED(x, kernel, **how)
  return _padded(x, kernel, **how)


def _zeros(x, kernel, stride, padding):
  """`convolve` with zeros around, as XLA does it."""
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(padding, padding)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _same(x, kernel):
  """`convolve` with zeros around and a result of the size of `x`."""
  return _zeros(x, kernel, 1, kernel.shape[0] // 2)


def _padded(x, kernel, *, stride, padding, padding_mode):
  """`convolve` of a map that is padded first."""
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
  """Enlarges `x` as PyTorch's transposed convolution, no output padding.

  `kernel` is in PyTorch's orientation, which is the mirror image of XLA's.
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
  x: Float[Array, "b h w c"], step: int
) -> Float[Array, "b p q c"]:
  """Pads bottom and right with zeros to whole multiples of `step`."""
  below, right = -x.shape[1] % step, -x.shape[2] % step
  if not below and not right:
    return x
  return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))


def cut_patches(
  x: Float[Array, "b h w c"], side: int
) -> Float[Array, "b p q d"]:
  """Cuts an image into patches of `side` x `side` pixels, one vector each.

  A linear map of them is a convolution whose stride is its kernel.
  """
  x = pad_to_multiple(x, side)
  b, h, w, c = x.shape
  x = x.reshape(b, h // side, side, w // side, side, c)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // side, w // side, side * side * c)


def convolve_depthwise(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"]
) -> Float[Array, "n h w c"]:
  """Convolves each channel by itself, zeros around."""
  return _DEPTHWISE(x, kernel)


def _grouped(x, kernel):
  """`convolve_depthwise` as XLA does it."""
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
