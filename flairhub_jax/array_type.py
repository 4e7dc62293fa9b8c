"""The array type of shape annotations, of NumPy and JAX arrays alike."""

import typing

import jax
import numpy as np

if typing.TYPE_CHECKING:
  # Functions of JAX declare that they take `jax.Array`.
  Array = jax.Array
else:
  Array = jax.Array | np.ndarray
