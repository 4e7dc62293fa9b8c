"""FLOP counts of functions: matrix products and convolutions."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend
from jax.interpreters import partial_eval


def count(function: Callable[..., Any], *args: Any) -> float:
  """Counts FLOPs: two per multiply-add; other operations are ignored.

  XLA's own count includes the body of a loop only once.

  Args:
    function: any that `jax.make_jaxpr` accepts.
    *args: its arguments, or their shapes.
  """
  jaxpr = jax.make_jaxpr(function)(*args).jaxpr
  # Gradients trace some forward passes twice; dead code elimination helps.
  jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return 2.0 * sum(times * multiplications(e) for e, times in products(jaxpr))


def products(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
  """Yields all products and convolutions with their number of executions."""
  for equation in jaxpr.eqns:
    name, inner_times = equation.primitive.name, times
    if name in ("dot_general", "conv_general_dilated"):
      yield equation, times
    elif name == "scan":
      inner_times *= equation.params["length"]
    elif name == "shard_map":
      inner_times *= equation.params["mesh"].size
    inside = list(jax.extend.core.jaxprs_in_params(equation.params))
    if equation.params.get("branches_platforms"):
      inside = inside[-1:]  # only the default form (kernels.py)
    for inner in inside:
      yield from products(inner, inner_times)


def multiplications(equation: Any) -> int:
  """Multiplications of one product or convolution."""
  left, right = (x.aval.shape for x in equation.invars[:2])
  (out,) = (x.aval.shape for x in equation.outvars)
  if equation.primitive.name == "conv_general_dilated":
    dims = equation.params["dimension_numbers"]
    return math.prod(out) * math.prod(right) // right[dims.rhs_spec[0]]
  (contracted, _), _ = equation.params["dimension_numbers"]
  return math.prod(out) * math.prod(left[i] for i in contracted)
