"""The form of each operation per platform, in one table.

Some operations have several forms with equal results up to rounding: XLA for
CPUs is fast with some, cuDNN, cuBLAS and TPUs with others. The form depends on
the platform for which a program is lowered, not on the one that traces it, so
it is right under `jax.default_device`, in `jit` for another than the default
device, and in `jax.export` for another platform.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from flairhub_jax.errors import InputError

# Platform -> operation -> form. Forms are defined with their operation;
# "library" is the one with kernels in cuDNN, cuBLAS and similar libraries. If
# both entries are equal, the form is traced once.
TABLE: Mapping[str, Mapping[str, str]] = {
  "cpu": {
    "attention": "parts",
    "convolution": "patches",
    "dense": "rows",
    "depthwise": "shifts",
    "padded_convolution": "lines",
    "resize": "broadcast",
  },
  "other": {
    "attention": "library",
    "convolution": "library",
    "dense": "rows",  # cuBLAS contracts any axis
    "depthwise": "library",
    "padded_convolution": "library",
    "resize": "library",
  },
}
# Operation -> names of its forms.
FORMS: Mapping[str, tuple[str, ...]] = {
  operation: (form, "library") for operation, form in TABLE["cpu"].items()
}
# Such as "attention=parts,resize=library", for measurements. It is no field of
# the configuration, as it affects only speed and rounding.
VARIABLE = "FLAIRHUB_KERNELS"

_forced: dict[str, str] = {}


@dataclasses.dataclass(frozen=True)
class Form:
  """One way to compute an operation.

  Attributes:
    forward: `(*arrays, **options) -> result`.
    backward: `(gradient, result, *arrays, **options) -> gradients` of the
      differentiated arrays; None: autodiff of `forward`, which is recomputed.
  """

  forward: Callable[..., Any]
  backward: Callable[..., Any] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
  """An operation with several forms; call it with arrays and options.

  Its residuals are its arrays, so that any form can be differentiated on any
  platform.

  Attributes:
    name: in `TABLE`.
    forms: by name.
    num_differentiated: the number of leading arrays with a gradient.
    keeps_result: whether the result is a residual too.
  """

  name: str
  forms: Mapping[str, Form]
  num_differentiated: int = 2
  keeps_result: bool = False

  def __call__(self, *arrays: Any, **options: Any) -> Any:
    """Runs the form of the platform; `options` are hashable."""
    form = _chosen(self.name)
    if form is None:
      forms = TABLE["cpu"][self.name], TABLE["other"][self.name]
    else:
      forms = (form, form)
    return _run(
      _Call(
        self,
        forms,
        tuple(sorted(options.items())),
        jax.config.jax_default_matmul_precision,  # type: ignore[attr-defined]
      ),
      *arrays,
    )


@dataclasses.dataclass(frozen=True)
class _Call:
  """An operation and its static arguments.

  Attributes:
    operation: the operation.
    forms: names of the forms for CPUs and for other platforms.
    options: of the operation.
    precision: of products, for the backward pass too.
  """

  operation: Operation
  forms: tuple[str, str]
  options: tuple[tuple[str, Any], ...]
  precision: str | None

  def by_platform(self, make, *args):
    """Runs `make(operation, form, options)` for the form of the platform."""
    on_cpu, elsewhere = (
      make(self.operation, form, self.options) for form in self.forms
    )
    if self.forms[0] == self.forms[1]:
      return on_cpu(*args)
    return jax.lax.platform_dependent(*args, cpu=on_cpu, default=elsewhere)


@functools.cache
def _forward_of(operation, form, options):
  """The forward pass of a form, traced once for each shape."""
  forward = operation.forms[form].forward
  return jax.jit(functools.partial(forward, **dict(options)), inline=True)


@functools.cache
def _backward_of(operation, form, options):
  """The backward pass of a form, traced once for each shape."""
  chosen, number = operation.forms[form], operation.num_differentiated
  forward = functools.partial(chosen.forward, **dict(options))

  def differentiate(gradient, result, *arrays):
    rest = arrays[number:]
    _, back = jax.vjp(lambda *xs: forward(*xs, *rest), *arrays[:number])
    return back(gradient)

  backward = differentiate
  if chosen.backward is not None:
    backward = functools.partial(chosen.backward, **dict(options))
  return jax.jit(backward, inline=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(call, *arrays):
  return call.by_platform(_forward_of, *arrays)


def _run_forward(call, *arrays):
  result = _run(call, *arrays)
  return result, (arrays, result if call.operation.keeps_result else None)


def _run_backward(call, residuals, gradient):
  arrays, result = residuals
  with jax.default_matmul_precision(call.precision):
    gradients = call.by_platform(_backward_of, gradient, result, *arrays)
  return *gradients, *(None for _ in arrays[len(gradients) :])


_run.defvjp(_run_forward, _run_backward)


def _chosen(operation: str) -> str | None:
  """The form forced on every platform, if any."""
  return (_of_environment(os.environ.get(VARIABLE, "")) | _forced).get(
    operation
  )


@functools.cache
def _of_environment(text: str) -> dict[str, str]:
  """Reads `VARIABLE`.

  Raises:
    InputError: an unknown operation or form.
  """
  chosen = {}
  for entry in filter(None, text.split(",")):
    operation, _, form = entry.partition("=")
    if form not in FORMS.get(operation, ()):
      choices = ", ".join(f"{o}={' or '.join(f)}" for o, f in FORMS.items())
      raise InputError(VARIABLE, f"any of {choices}", repr(entry))
    chosen[operation] = form
  return chosen


def check_environment() -> None:
  """Checks `VARIABLE` before anything is built.

  Raises:
    InputError: see `_of_environment`.
  """
  _of_environment(os.environ.get(VARIABLE, ""))


@contextlib.contextmanager
def forced(**forms: str) -> Iterator[None]:
  """Uses these forms on every platform while tracing in this context."""
  before = dict(_forced)
  _forced.update(forms)
  try:
    yield
  finally:
    _forced.clear()
    _forced.update(before)
